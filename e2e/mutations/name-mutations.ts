// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Breaks of the rules for names: what an answer teaches, for whom, and who pays for it. */

import { inTests, type Mutation, of } from './mutation.ts';

export const nameMutations: readonly Mutation[] = [
  ...of(
    5,
    'packages/core/src/dns/reply.ts',
    ['packages/core/src/dns/reply.test.ts'],
    [
      [
        'behind one owner that is written out each other one counts as equal',
        'if (target === noPlace || target !== equalTarget) {',
        'if (target !== equalTarget) {',
      ],
    ],
  ),
  ...of(
    17,
    'packages/dns-proxy/src/policy/tables.ts',
    ['packages/dns-proxy/src/policy/tables.test.ts'],
    [
      [
        'patterns of other namespaces keep those of the own one out',
        'if (offers === out.length) break;',
        'break;',
      ],
    ],
  ),
  ...of(17, 'bpf/include/tandem/fqdn_pack.h', inTests('learn-pages', 'fqdn-moves'), [
    ['an address keeps pages for which it has no pairs', '\tlast_slot_moves(&pages, filled);', ''],
    [
      'a pair that moves loses the time of its use',
      'source->last_used_ns - target->last_used_ns',
      'target->last_used_ns - source->last_used_ns',
    ],
  ]),
  ...of(17, 'bpf/include/tandem/fqdn_read.h', inTests('fqdn-moves'), [
    [
      'a pair that moves past the search is not found',
      '#define TD_SEARCHES_MAX 8',
      '#define TD_SEARCHES_MAX 1',
    ],
  ]),
];
