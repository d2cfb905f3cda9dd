// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Holds a foreign program on an interface of its namespace until its standard input ends. */

import { attachTcx } from '@tandem/bpf-loader-node/link';
import { BpfObject } from '@tandem/bpf-loader-node/object';

const [objectPath, ifindex, direction, target] = process.argv.slice(2);
if (objectPath === undefined || (direction !== 'ingress' && direction !== 'egress')) {
  throw new TypeError('usage: OBJECT IFINDEX DIRECTION [TARGET]');
}
using object = BpfObject.open(objectPath);
object.setRodata('target', new Uint8Array(Uint32Array.of(Number(target ?? 0)).buffer));
object.load();
using _link = attachTcx({
  program: object.program(target === undefined ? 'front' : 'past'),
  ifindex: Number(ifindex),
  direction,
  before: 'all',
});
process.stdout.write('attached\n');
for await (const _ of process.stdin);
