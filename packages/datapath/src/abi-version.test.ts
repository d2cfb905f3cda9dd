// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The meaning of entries of the agent's maps, by ABI version. A test that fails here says that programs or agents of the version before
 * would misread an entry: a field that moves, and a reserved one, a bit of a value or a combination of bits that gets a meaning, raise TD_ABI_VERSION, with
 * a way there and back in migrations.ts. The text of the new version then takes the place of this one.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { TD_ABI_VERSION, tdEndpoint, tdPolicy } from './abi.gen.ts';
import { encodeClass, encodeDnsServer, encodeEndpoint, encodePolicy } from './encode.ts';

const header = new URL('../../../bpf/include/tandem/abi.h', import.meta.url);
const version = 2;
/** From `endpoints` to `dns_servers`, without comments. */
const meaning = `
struct td_addr { __u32 a[4]; };
enum td_endpoint_flags { TD_EP_ENFORCE_INGRESS = 1 << 0, TD_EP_ENFORCE_EGRESS = 1 << 1, TD_EP_HOLD = 1 << 2,
  TD_EP_WILD_INGRESS = 1 << 3, TD_EP_WILD_EGRESS = 1 << 4, TD_EP_FQDN = 1 << 5, TD_EP_DNS = 1 << 6, TD_EP_AUDIT = 1 << 7,
  TD_EP_BRIDGED = 1 << 8, };
struct td_endpoint { __u32 id; __u32 policy_id; __u32 veth_ifindex; __u32 l3_ifindex; __u32 class_id; __u32 flags;
  __u32 namespace_id; __u8 bridge_mac[6]; __u8 mac[6]; __u32 reserved[3]; };
struct td_class_key { __u32 prefixlen; struct td_addr addr; };
enum td_class_flags { TD_CLASS_CLUSTER = 1 << 0, TD_CLASS_NODE = 1 << 1, TD_CLASS_SERVICE = 1 << 2,
  TD_CLASS_LINK_LOCAL = 1 << 3, TD_CLASS_LOCAL_PODS = 1 << 4, TD_CLASS_HOST = 1 << 5, };
#define TD_CLASS_OWNER (TD_CLASS_CLUSTER | TD_CLASS_NODE | TD_CLASS_HOST)
enum td_class_owner { TD_OWNER_WORLD = 0, TD_OWNER_CLUSTER = TD_CLASS_CLUSTER,
  TD_OWNER_A_NODE = TD_CLASS_CLUSTER | TD_CLASS_NODE, TD_OWNER_THIS_NODE = TD_CLASS_CLUSTER | TD_CLASS_NODE | TD_CLASS_HOST,
  TD_OWNER_WORLD_AND_NO_POD_MAY_CLAIM_IT = TD_CLASS_NODE, };
#define TD_CLASS_NEVER_LEARN \\
  (TD_CLASS_CLUSTER | TD_CLASS_NODE | TD_CLASS_SERVICE | TD_CLASS_LINK_LOCAL | TD_CLASS_LOCAL_PODS)
struct td_class { __u32 id; __u32 flags; };
#define TD_PEER_ANY 0u
#define TD_CLASS_NONE 1u
struct td_pod_mac { __u8 mac[6]; __u16 reserved; };
struct td_device_name { char name[16]; };
#define TD_INGRESS 0
#define TD_EGRESS 1
#define TD_POLICY_BITS_PEER 72u
#define TD_POLICY_BITS_PROTO 80u
#define TD_POLICY_BITS_PORT 96u
struct td_policy_key { __u32 prefixlen; __u32 policy_id; __u32 peer; __u8 direction; __u8 protocol; __u16 port_be; };
#define TD_SELECTOR_BIT 0x80000000u
enum td_verdict { TD_VERDICT_NONE = 0, TD_VERDICT_ALLOW = 1, TD_VERDICT_DENY = 2, TD_VERDICT_L7_DNS = 3 };
#define TD_VERDICT_DECIDED 0x80u
struct td_policy { __u8 verdict; __u8 reserved0[3]; __u32 rule_id; };
struct td_dns_server_key { __u32 policy_id; struct td_addr server; __u8 protocol; __u8 reserved[3]; };
struct td_dns_server { __u32 rule_set_id; __u32 flags; };
`;

const plain = (text: string): string =>
  text
    .replaceAll(/\/\*.*?\*\//gs, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim();

test('declarations of the maps that the agent alone writes are those of the version', () => {
  const text = readFileSync(header, 'utf8');
  const begin = text.indexOf('/* ---- addresses');
  const end = text.indexOf('/* ---- fqdn:');
  assert.ok(begin > 0 && end > begin);
  assert.equal(TD_ABI_VERSION, version, 'the text here is of another version');
  assert.equal(plain(text.slice(begin, end)), plain(meaning), 'raise TD_ABI_VERSION');
});

test('what is reserved is written as zero, whatever the value', () => {
  const most = 0xffff_ffff;
  const policyId = most as PolicyId;
  const six = new Uint8Array(6).fill(0xff);
  const endpoint = encodeEndpoint(new Uint8Array(16), {
    ...{ endpointId: most, policyId, vethIfindex: most, l3Ifindex: most, classId: most },
    ...{ flags: most, namespaceId: most as NamespaceId, bridgeMac: six, mac: six },
  });
  assert.deepEqual([...endpoint.value.slice(tdEndpoint.reserved)], new Array(12).fill(0));
  for (const verdict of [0, 1, 2, 3]) {
    for (const decided of [{}, { isDecided: true } as const]) {
      const place = { policyId, peer: most, direction: 1, protocol: 255, port: 65_535 };
      const entry = encodePolicy({
        ...{ ...place, ...decided, prefixLength: 96, verdict, ruleId: most },
      });
      assert.equal((entry.value[tdPolicy.verdict] ?? 0) & ~0x83, 0, 'bits of a verdict');
      assert.deepEqual([...entry.value.slice(1, 4)], [0, 0, 0]);
    }
  }
  const server = encodeDnsServer(policyId, new Uint8Array(16).fill(0xff), 17, most);
  assert.deepEqual([...server.key.slice(-3), ...server.value.slice(4)], new Array(7).fill(0));
  const { value } = encodeClass(new Uint8Array(16), 128, most, 0);
  assert.deepEqual([...value.slice(4)], [0, 0, 0, 0]);
});
