// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Accepts connections on a listener whose O_NONBLOCK another process clears, once or again and again, and prints how many. A
 * connection comes when the event loop has turned since the last one: if accept4 waits for it, it prints nothing.
 *
 *   node blocking-listener.ts once|always
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd, localPort } from '../src/fd.ts';
import { createListener } from '../src/listener.ts';
import { acceptTcp } from '../src/tcp-accept.ts';

const connections = 200;
const clear = `
import fcntl, os, sys, time
parent = os.getppid()
def clear(): fcntl.fcntl(0, fcntl.F_SETFL, 0)
clear()
print("cleared", flush=True)
while os.getppid() == parent:
    if sys.argv[1] == "always": clear()
    else: time.sleep(0.1)`;

const guard = { mark: 0, markMask: 0, redirectMark: 0 };
const fd = createListener({ family: 4, protocol: 'tcp', port: 0, ...guard });
let accepted = 0;
const { promise: all, resolve } = Promise.withResolvers<void>();
const stop = acceptTcp(fd, {
  onConnection: (connection) => {
    accepted += 1;
    if (accepted === connections) resolve();
    closeFd(connection.fd);
  },
  onError: (errno) => {
    throw new Error(`accept: ${errno}`);
  },
});
// The descriptor goes to the child as in a message of the peer link: one open file.
const peer = spawn('python3', ['-c', clear, String(process.argv[2])], {
  stdio: [fd, 'pipe', 'inherit'],
});
await once(peer.stdout as NodeJS.ReadableStream, 'data');
for (let i = 0; i < connections; i++) {
  const client = connect(localPort(fd), '127.0.0.1');
  client.on('error', () => undefined);
  await once(client, 'connect');
  await sleep(1);
  client.destroy();
}
await all;
peer.kill('SIGKILL');
stop();
console.log(accepted);
