#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The process of the command `tandem`. */

import { runAsProcess } from './process.ts';
import { runCli } from './program.ts';

await runAsProcess(runCli);
