// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Run by fence.test.ts: arms the pipe in its argument, says so, and then stops, turns in a loop, or waits. */

import { armFence } from '../src/fence.ts';

const [path = '', way] = process.argv.slice(2);
armFence(path);
process.stdout.write('armed\n', () => {
  if (way === 'stopped') process.kill(process.pid, 'SIGSTOP');
  const isBusy = (): boolean => way === 'busy';
  while (isBusy());
  setInterval(() => undefined, 60_000);
});
