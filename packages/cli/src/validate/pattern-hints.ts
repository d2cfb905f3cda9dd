// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Stars in a matchPattern that match less than they seem to, or more: a bare one in toFQDNs. As in Cilium, only "**." at the start matches several labels; any
 * other "**" is one "*", which stays within a label (cilium#22081, cilium#35819).
 */

import { type Fields, isFields } from '@tandem/core/k8s/shape';
import type { Hint } from './network-policy-hints.ts';

/** The hints for one spec, whose field path is `path`. */
export function starHints(path: string, spec: Fields): readonly Hint[] {
  return listOf(spec, 'egress').flatMap((rule, at) => {
    const here = `${path}.egress[${at}]`;
    const fqdns = listOf(rule, 'toFQDNs');
    const names = [
      ...patternHints(`${here}.toFQDNs`, fqdns),
      ...bareHints(`${here}.toFQDNs`, fqdns),
    ];
    const queries = listOf(rule, 'toPorts').flatMap((port, index) => {
      const { rules } = port;
      return isFields(rules)
        ? patternHints(`${here}.toPorts[${index}].rules.dns`, listOf(rules, 'dns'))
        : [];
    });
    return [...names, ...queries];
  });
}

function patternHints(path: string, items: readonly Fields[]): readonly Hint[] {
  return items.flatMap(({ matchPattern }, index) => {
    if (typeof matchPattern !== 'string' || isBare(matchPattern)) return [];
    const rest = matchPattern.replace(/^\*{2,}\./, '');
    if (!rest.includes('**')) return [];
    const meant = rest.replaceAll(/\*{2,}/g, '*');
    const message = `has "**", which counts as "*" and stays within a label: ${JSON.stringify(matchPattern)} matches as "${meant}". Only "**." at the start matches several labels`;
    return [{ path: `${path}[${index}].matchPattern`, message }];
  });
}

function bareHints(path: string, items: readonly Fields[]): readonly Hint[] {
  return items.flatMap(({ matchPattern }, index) => {
    if (typeof matchPattern !== 'string' || !isBare(matchPattern)) return [];
    const message =
      'allows every address that any answer to any pod gave: name the domains, or write toEntities: [world] if all of them are intended';
    return [{ path: `${path}[${index}].matchPattern`, message }];
  });
}

const isBare = (pattern: string): boolean => /^\*+\.?$/.test(pattern);

function listOf(fields: Fields, name: string): readonly Fields[] {
  const value = fields[name];
  return Array.isArray(value) ? value.filter(isFields) : [];
}
