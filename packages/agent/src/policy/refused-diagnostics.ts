// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Entries that the kernel refused, by the objects whose pods are denied for them. */

import type { PolicyId } from '@tandem/core/ids';
import { formatAddress } from '@tandem/core/net/ip';
import type { Compiled, Diagnostic } from '@tandem/core/policy/model/desired';
import type { Refused } from './apply.ts';

export function refusedDiagnostics(
  refused: readonly Refused[],
  compiled: Compiled,
): readonly Diagnostic[] {
  return refused.flatMap(({ map, entries, reason, policies }) => {
    const subjects =
      map === 'endpoints' ? podsOf(entries, compiled) : objectsOf(policies, compiled);
    const fate =
      map === 'endpoints'
        ? 'its traffic is dropped until there is room'
        : 'the pods that it selects are denied everything until the kernel takes them';
    return (subjects.size > 0 ? [...subjects] : [`map ${map}`]).map(
      (subject): Diagnostic => ({
        severity: 'error',
        code: 'entries-refused',
        subject,
        message: `the kernel refuses ${entries.length} entries of ${map} (${reason}); ${fate}. They are tried again every few seconds`,
      }),
    );
  });
}

/** Objects that have a part in one of the policies. */
function objectsOf(policies: ReadonlySet<PolicyId>, compiled: Compiled): ReadonlySet<string> {
  const subjects = new Set<string>();
  for (const id of policies) {
    for (const { ruleId } of compiled.policies.get(id)?.rules ?? []) {
      const [subject = ''] = (compiled.rules.get(ruleId)?.text ?? '').split(': ');
      if (subject !== '') subjects.add(subject);
    }
  }
  return subjects;
}

function podsOf(entries: Refused['entries'], compiled: Compiled): ReadonlySet<string> {
  const keys = new Set(entries.map(({ key }) => formatAddress(key)));
  const found = compiled.endpoints.filter(({ address }) => keys.has(formatAddress(address)));
  return new Set(found.map(({ pod }) => `Pod/${pod.namespace}/${pod.name}`));
}
