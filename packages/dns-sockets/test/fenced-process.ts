// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Run by fence.test.ts: arms the pipe in its argument, says so, and then stops, turns in a loop, waits, or ends. */

import { closeFd, duplicateFd } from '../src/fd.ts';
import { armFence } from '../src/fence.ts';

const [path = '', way] = process.argv.slice(2);
// Their places in the addon's list of descriptors are taken by the newest ones when they are closed.
const others = way === 'exit-after-others' ? [0, 0, 0].map((fd) => duplicateFd(fd)) : [];
armFence(path);
for (const fd of others) closeFd(fd);
process.stdout.write('armed\n', () => {
  if (way?.startsWith('exit') === true) process.exit(7);
  if (way === 'stopped') process.kill(process.pid, 'SIGSTOP');
  const isBusy = (): boolean => way === 'busy';
  while (isBusy());
  setInterval(() => undefined, 60_000);
});
