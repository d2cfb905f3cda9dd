// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Run by loop.bench.ts: an echo server on the port given; prints "ready"; ends when killed. */

import { createListener } from '../src/listener.ts';
import { echoLoop } from '../test/echo.ts';

const fd = createListener({
  family: 4,
  protocol: 'udp',
  port: Number(process.argv[2]),
  mark: 0,
  markMask: 0,
  redirectMark: 0,
});
echoLoop().add(fd, 'listener');
process.stdout.write('ready\n');
