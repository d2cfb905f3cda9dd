// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as limits from '../../limits.ts';
import * as numbers from './kernel-numbers.ts';

const abi = readFileSync(
  new URL('../../../../../bpf/include/tandem/abi.h', import.meta.url),
  'utf8',
);

/** `#define NAME 12u`, `NAME = 1 << 3` or `NAME = 3`. */
function abiNumber(name: string): number {
  const match = new RegExp(
    `\\b${name}\\s*(?:=\\s*)?(0x[0-9a-f]+|\\d+)u?(?:\\s*<<\\s*(\\d+))?`,
  ).exec(abi);
  assert(match !== null, `${name} is in abi.h`);
  return Number(match[1]) * 2 ** Number(match[2] ?? 0);
}

test('the numbers are those of abi.h', () => {
  const { EndpointFlag, ClassFlag, Verdict, Direction } = numbers;
  const rows: [name: string, value: number][] = [
    ['TD_EP_ENFORCE_INGRESS', EndpointFlag.enforceIngress],
    ['TD_EP_ENFORCE_EGRESS', EndpointFlag.enforceEgress],
    ['TD_EP_HOLD', EndpointFlag.hold],
    ['TD_EP_WILD_INGRESS', EndpointFlag.wildIngress],
    ['TD_EP_WILD_EGRESS', EndpointFlag.wildEgress],
    ['TD_EP_FQDN', EndpointFlag.fqdn],
    ['TD_EP_DNS', EndpointFlag.dns],
    ['TD_EP_AUDIT', EndpointFlag.audit],
    ['TD_EP_BRIDGED', EndpointFlag.bridged],
    ['TD_CLASS_CLUSTER', ClassFlag.cluster],
    ['TD_CLASS_NODE', ClassFlag.node],
    ['TD_CLASS_SERVICE', ClassFlag.service],
    ['TD_CLASS_LINK_LOCAL', ClassFlag.linkLocal],
    ['TD_CLASS_LOCAL_PODS', ClassFlag.localPods],
    ['TD_CLASS_HOST', ClassFlag.host],
    ['TD_PEER_ANY', numbers.peerAny],
    ['TD_CLASS_NONE', numbers.classNone],
    ['TD_SELECTOR_BIT', numbers.selectorBit],
    ['TD_INGRESS', Direction.ingress],
    ['TD_EGRESS', Direction.egress],
    ['TD_POLICY_BITS_PEER', numbers.policyBitsPeer],
    ['TD_POLICY_BITS_PROTO', numbers.policyBitsProtocol],
    ['TD_POLICY_BITS_PORT', numbers.policyBitsPort],
    ['TD_VERDICT_NONE', Verdict.none],
    ['TD_VERDICT_ALLOW', Verdict.allow],
    ['TD_VERDICT_DENY', Verdict.deny],
    ['TD_VERDICT_L7_DNS', Verdict.l7Dns],
    ['TD_VERDICT_DECIDED', numbers.verdictDecided],
    ['TD_ENDPOINTS_MAX', limits.endpointsMax],
    ['TD_CLASSES_MAX', limits.classPrefixesMax],
    ['TD_POLICY_MAX', limits.policyEntriesMax],
    ['TD_DNS_SERVERS_MAX', limits.dnsServersMax],
  ];
  for (const [name, value] of rows) assert.equal(value, abiNumber(name), name);
});

test('owners of classes are the combinations of flags that abi.h lists', () => {
  const body = /enum td_class_owner \{(.*?)\};/s.exec(abi)?.[1]?.replaceAll(/\/\*.*?\*\//gs, '');
  assert(body !== undefined);
  const listed = [...body.matchAll(/TD_OWNER_(\w+) = ([^,]+),/g)].map(
    ([, name = '', value = '']) => [
      name.toLowerCase().replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
      value === '0' ? 0 : value.split('|').reduce((flags, one) => flags | abiNumber(one.trim()), 0),
    ],
  );
  assert.deepEqual(Object.fromEntries(listed), { ...numbers.ClassOwner });
  const mask = /TD_CLASS_OWNER \(([^)]+)\)/.exec(abi)?.[1]?.split('|') ?? [];
  assert.equal(
    numbers.classOwnerFlags,
    mask.reduce((flags, one) => flags | abiNumber(one.trim()), 0),
  );
});

test('never-learn is the union of the flags that abi.h lists', () => {
  const body = /TD_CLASS_NEVER_LEARN \\\n\s*\(([^)]+)\)/.exec(abi)?.[1];
  assert(body !== undefined);
  const union = body.split('|').reduce((flags, name) => flags | abiNumber(name.trim()), 0);
  assert.equal(numbers.classNeverLearn, union);
});
