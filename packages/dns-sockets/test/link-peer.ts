// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run by unix-seqpacket.test.ts: connects to the path, sends a message with a listening TCP
 * socket, prints "sent", and waits to be killed (or ends with stdin).
 */

import { createListener } from '../src/listener.ts';
import { UnixSeqpacket } from '../src/unix-seqpacket.ts';

const link = UnixSeqpacket.connect(process.argv[2] as string, {
  onMessage: () => {},
  onEnd: () => process.exit(0),
});
const fd = createListener({
  family: 4,
  protocol: 'tcp',
  port: 0,
  mark: 0,
  markMask: 0,
  redirectMark: 0,
});
link.send(new TextEncoder().encode(`hello from ${process.pid}`), [fd]);
process.stdout.write('sent\n');
