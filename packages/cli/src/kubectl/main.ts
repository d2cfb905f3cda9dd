#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The process of `kubectl tandem`: kubectl runs `kubectl-tandem` of the PATH. Its imports are read after the check: an older
 * Node.js cannot parse it.
 */

import { requireNode } from '../node-version.ts';

requireNode();
const [{ runAsProcess }, { runPlugin }] = await Promise.all([
  import('../process.ts'),
  import('./program.ts'),
]);
await runAsProcess(runPlugin);
