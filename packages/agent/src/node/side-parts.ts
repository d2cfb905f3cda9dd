// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Parts of the datapath that enforcement does not need, as status shows them when they are missing. */

import type { DegradationCode } from '@tandem/core/codes/degradations';
import type { SidePart } from '@tandem/datapath/load';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';

const codes: Readonly<Record<SidePart, DegradationCode>> = {
  pins: 'pins-missing',
  sharing: 'pins-not-shared',
  guard: 'port-unguarded',
  removal: 'old-pins',
};

export function sideDegradations(problems: ReadonlyMap<SidePart, string>): readonly Degradation[] {
  return [...problems].map(([part, reason]) => {
    const { code, message, fix } = degradation(codes[part]);
    return { code, message: `${message} (${reason})`, fix };
  });
}
