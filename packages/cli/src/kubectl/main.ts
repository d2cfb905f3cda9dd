#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The process of `kubectl tandem`: kubectl runs `kubectl-tandem` of the PATH. */

import { runAsProcess } from '../process.ts';
import { runPlugin } from './program.ts';

await runAsProcess(runPlugin);
