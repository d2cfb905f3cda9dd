// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Run as another uid by listener.test.ts: tries to join the UDP group of a port and prints
 * "joined" or the name of the errno.
 */

import { DnsSocketError } from '../src/errors.ts';
import { createListener } from '../src/listener.ts';

try {
  createListener({
    family: 4,
    protocol: 'udp',
    port: Number(process.argv[2]),
    mark: 0,
    markMask: 0,
    redirectMark: 0,
  });
  process.stdout.write('joined');
} catch (error) {
  process.stdout.write(error instanceof DnsSocketError ? error.errnoName : String(error));
}
