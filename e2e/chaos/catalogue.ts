// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The parts of a chaos run, in the order in which they run. */

import type { Part } from './part.ts';
import { attack } from './parts/attack.ts';
import { faultsPart } from './parts/faults.ts';
import { gate } from './parts/gate.ts';
import { members } from './parts/members.ts';
import { starvation } from './parts/starvation.ts';
import { tcp } from './parts/tcp.ts';
import { upgrade } from './parts/upgrade.ts';

export const parts: readonly Part[] = [members, upgrade, tcp, gate, faultsPart, attack, starvation];
