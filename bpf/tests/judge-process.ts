// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The other CPU of fqdn-denial.test.ts: fd 3 is the program `judge`, the argument a packet in hexadecimal. Judges it at
 * POST_ROUTING again and again until its input ends; says "ready" before.
 */

import { BpfProgram } from '@tandem/bpf-loader-node/program';

const ctx = new Uint8Array(48); // struct nf_hook_state: hook, pf, pointers
ctx.set([4, 2]);
const data = new Uint8Array(Buffer.from(process.argv[2] ?? '', 'hex'));
const program = BpfProgram.fromFd(3);
let isAsked = true;
process.stdin
  .on('end', () => {
    isAsked = false;
  })
  .resume();
console.log('ready');

function ask(): void {
  if (!isAsked) return;
  program.testRun({ data, ctx, repeat: 5000, dataOutSize: 0, ctxOutSize: 0 });
  setImmediate(ask);
}
ask();
