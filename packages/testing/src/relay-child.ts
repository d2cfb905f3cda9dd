// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Passes connections of a TCP port of the namespace that it runs in on to a unix socket. Arguments: port, path. */

import net from 'node:net';

const [port = '', path = ''] = process.argv.slice(2);

const server = net.createServer((client) => {
  const target = net.connect(path);
  for (const [from, to] of [
    [client, target],
    [target, client],
  ] as const) {
    from.on('error', () => undefined);
    from.once('close', () => to.destroy());
    from.pipe(to);
  }
});
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('listening\n'));
