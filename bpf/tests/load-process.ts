// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A process that loads the programs, for load-signals.test.ts. The argument is the path of the object. */

import { BpfObject } from '@tandem/bpf-loader-node/object';

using object = BpfObject.open(process.argv[2] ?? '');
object.load();
console.log('loaded');
