// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One line of a safety rule each (docs/security.md), broken, and the tests that must find it. */

import { inAgent, inTests, type Mutation, of } from './mutation.ts';
import { nameMutations } from './name-mutations.ts';

const fromPods = inTests('from-pod-claims', 'from-pod');
const toPods = inTests('to-pod-claims', 'to-pod');
const judged = inTests(
  ...['judge-interfaces', 'judge-source', 'judge-host', 'judge-packets'],
  ...['judge-host-exit', 'judge-policy'],
);
const onPaths = inTests('devices.namespace');
const datapathTest = ['packages/datapath/src/datapath.test.ts'];
const orders = inTests('order.fuzz', 'learn', 'learn.concurrent');

export const mutations: readonly Mutation[] = [
  ...of(2, 'bpf/include/tandem/pod_frame.h', fromPods, [
    [
      'a pod sends frames behind a VLAN tag',
      '*type == bpf_htons(ETH_P_8021Q) || *type == bpf_htons(ETH_P_8021AD)',
      '0',
    ],
  ]),
  ...of(2, 'bpf/include/tandem/pod_frame.h', inTests('hooks.namespace'), [
    ['a tag that the device has taken off counts for nothing', 'if (skb->vlan_present)', 'if (0)'],
  ]),
  ...of(2, 'bpf/src/from_pod.bpf.c', fromPods, [
    [
      "ARP in another pod's Ethernet address",
      'if (is_foreign_mac(skb, arp->sender_mac))',
      'if (0)',
    ],
    [
      "ARP for another pod's address",
      'if (!own_endpoint(skb, &p->source))\n\t\treturn TD_COUNT_DROP_SPOOFED;\n\tcount',
      'count',
    ],
    [
      'a device writes a checksum over the address that ARP claims',
      'if (!arp || is_written_over(skb, -1))',
      'if (!arp)',
    ],
    [
      'a device writes a checksum over what ICMP claims or quotes',
      'return at >= 0 && at != own;',
      'return at >= 0 && own == -1;',
    ],
    ["an ARP probe for another pod's address", 'if (!p->source.a[3]) {', 'if (0) {'],
    [
      'verified ARP is not told from other ARP at a bridge',
      'mark_set(skb, reason == TD_PASS);',
      'mark_set(skb, false);',
    ],
    ["a neighbour message with another's Ethernet address", 'is_foreign_mac(skb, option + 2)', '0'],
    [
      "an advertisement for another pod's address",
      'return own_endpoint(skb, &target) ? TD_PASS : TD_COUNT_DROP_SPOOFED;',
      'return TD_PASS;',
    ],
    [
      'a link-local address of the node is claimed',
      'if (class_of(address).flags & TD_CLASS_NODE)',
      'if (0)',
    ],
    [
      "a link-local address made of another's Ethernet address is claimed",
      '(high & 0xff) == 0xff && low >> 24 == 0xfe && is_foreign_mac(skb, made_of)',
      '0',
    ],
    [
      'neighbour discovery in fragments',
      'if (p->is_fragment && (*without_endpoint || is_link_message(p)))',
      'if (0)',
    ],
    ['a router advertisement of a pod', 'p->icmp_type == TD_ND_ROUTER_ADVERT || ', ''],
    ['a redirect of a pod', 'p->icmp_type == TD_ND_REDIRECT ||', ''],
    ['a query of a multicast router of a pod', 'p->icmp_type == TD_MLD_QUERY || ', ''],
    [
      'a message without address from a foreign Ethernet address',
      'if (is_foreign_source(skb))',
      'if (0)',
    ],
    [
      'a packet from a foreign Ethernet address',
      'if (endpoint->flags & TD_EP_BRIDGED && !is_source_of(skb, endpoint))',
      'if (0)',
    ],
  ]),
  ...of(2, 'bpf/src/to_pod.bpf.c', toPods, [
    [
      'a router advertisement of a neighbour arrives',
      'if (frame_ingress(skb) != 0 &&\n\t    (p->icmp_type == TD_ND_ROUTER_ADVERT',
      'if (0 &&\n\t    (p->icmp_type == TD_ND_ROUTER_ADVERT',
    ],
    [
      "a claim to an address of another pod's arrives",
      'return endpoint && endpoint->veth_ifindex != ingress ? TD_COUNT_DROP_SPOOFED : TD_PASS;',
      '(void)endpoint;\n\treturn TD_PASS;',
    ],
  ]),
  ...of(3, 'bpf/src/judgement.h', judged, [
    [
      'a source counts by whatever interface',
      'j->is_verified = is_interface_of(source, j->ifindex);',
      'j->is_verified = true;',
    ],
    [
      'an index that another interface has by now verifies',
      'return ifindex == endpoint->veth_ifindex && is_pod_device(ifindex);',
      'return ifindex == endpoint->veth_ifindex;',
    ],
    [
      'a device writes a checksum over the ports that were judged',
      'if (checksum_at != TD_NO_CHECKSUM &&',
      'if (0 &&',
    ],
  ]),
  ...of(3, 'bpf/src/judge.bpf.c', judged, [
    [
      'an unverified source passes',
      'if (j->source.id && !j->from_host && !j->is_verified)',
      'if (0)',
    ],
    [
      'others use an address of the node',
      'return j->source.class.flags & TD_CLASS_HOST &&',
      'return false &&',
    ],
    ['a pod sends into a tunnel of a node', '!j->from_host && is_tunnel(p) &&', '0 &&'],
    ['a known pod uses an address of nobody', 'if (j->entry == TD_SIDE_POD &&', 'if (0 &&'],
  ]),
  ...of(3, 'bpf/src/guard_entry.bpf.c', inTests('guard-entry'), [
    ["an endpoint's address opens a connection by another port", 'if (source) /*', 'if (0) /*'],
    [
      "an address of the node's opens a connection by a port",
      'if (class_of(&p->source).flags & TD_CLASS_HOST &&',
      'if (0 &&',
    ],
  ]),
  ...of(6, 'bpf/src/judge.bpf.c', judged, [
    ['a stranger sends', 'if (j->entry == TD_SIDE_STRANGER)', 'if (0)'],
    [
      'a stranger receives',
      'if (is_astray(j) || j->exit == TD_SIDE_STRANGER)',
      'if (is_astray(j))',
    ],
    [
      'a pod on hold speaks',
      'if ((j->source.flags | j->destination.flags) & TD_EP_HOLD)',
      'if (0)',
    ],
  ]),
  ...of(6, 'bpf/src/guard_entry.bpf.c', inTests('guard-entry'), [
    [
      'a stranger opens a connection by a port',
      'if (entry_side(ctx, port) == TD_SIDE_STRANGER)',
      'if (0)',
    ],
  ]),
  ...of(6, 'bpf/src/guard_exit.bpf.c', inTests('guard-exit'), [
    ['a frame of a stranger leaves by a trusted port', 'TD_TCX_DROP', 'TD_TCX_NEXT'],
  ]),
  ...of(6, 'bpf/include/tandem/switched.h', inTests('guard-exit'), [
    [
      "a frame of a stranger leaves that is for the bridge's own address",
      'if (!ethernet || !is_mac_of(bridge, ethernet->h_dest))',
      'if (!ethernet || bridge)',
    ],
  ]),
  ...of(6, 'bpf/src/to_pod.bpf.c', inTests('guard-exit'), [
    [
      'a packet of a stranger reaches a pod past netfilter',
      'return bridge && is_switched_by(bridge, skb) ? TD_COUNT_DROP_UNKNOWN_POD : TD_PASS;',
      'return bridge ? TD_PASS : TD_PASS;',
    ],
  ]),
  ...of(6, 'bpf/src/judge_root.bpf.c', inTests('judge-policy', 'guard-entry', 'hooks.namespace'), [
    [
      'pods are open while the slot is empty',
      'count(TD_COUNT_DROP_NO_PROGRAM);\n\treturn NF_DROP;',
      'count(TD_COUNT_DROP_NO_PROGRAM);\n\treturn NF_ACCEPT;',
    ],
  ]),
  ...of(6, 'bpf/include/tandem/devices.h', onPaths, [
    [
      'an unknown veth is outside',
      'return is_own_pair(veth) ? TD_SIDE_OUTSIDE : TD_SIDE_STRANGER;',
      'return TD_SIDE_OUTSIDE;',
    ],
    [
      'an unknown port of a bridge of pods is outside',
      'return in && is_pod_bridge(in) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;',
      'return TD_SIDE_OUTSIDE;',
    ],
    [
      'a bridge that had a longer name is of no pods',
      'bpf_core_read_str(&name, sizeof(name), &device->name) > 0 &&',
      '!bpf_core_read(&name, sizeof(name), &device->name) &&',
    ],
    [
      'what is sent to a group of bridges is of nobody',
      'return is_pod_bridge(master) ? TD_SIDE_STRANGER : TD_SIDE_OUTSIDE;',
      'return TD_SIDE_OUTSIDE;',
    ],
  ]),
  ...of(3, 'packages/datapath/src/datapath.ts', datapathTest, [
    ['judge believes an interface early', 'if (this.hasJudged()) return false;', ''],
    [
      'judge believes an interface that got no from_pod',
      "if (isIntroduced && !this.#isVerified(ifindex)) this.map('pod_devices').delete(word(ifindex));",
      '',
    ],
  ]),
  ...of(6, 'packages/agent/src/node/arp-guard.ts', inAgent('node/arp-guard'), [
    ['ARP of a stranger reaches the node', '== 0 counter drop', '== 0 counter accept'],
    [
      'hosts behind trusted ports have no ARP',
      'if (ports.length === 0) return { arp };',
      'if (ports.length >= 0) return { arp };',
    ],
  ]),
  ...of(14, 'bpf/src/judge.bpf.c', judged, [
    [
      'a pod sends an error about a flow of others',
      'return is_related_error && j->source.id &&',
      'return false && j->source.id &&',
    ],
    ['a redirect is of the flow that it quotes', 'if (is_icmp_redirect(&j.packet))', 'if (0)'],
  ]),
  ...of(14, 'bpf/include/tandem/conntrack.h', judged, [
    [
      'a party of a flow that was translated is none',
      'connection_backend(c->entry, family, &end);\n\treturn address_equal(&end, address);',
      'return false;',
    ],
  ]),
  ...of(17, 'bpf/include/tandem/order.h', orders, [
    ['offers do not give first', 'if (space_at(order, TD_SPACE_OFFERS)->head)', 'if (0)'],
    [
      'a namespace over its share takes from others',
      'if (space->used >= space->share || !giver)',
      'if (!giver)',
    ],
    [
      'a namespace under its share gets nothing of those over theirs',
      'if (space->used >= space->share || !giver)',
      'if (1)',
    ],
    [
      'one namespace gives for all that are over their share',
      'over_remove(order, space_at(order, giver));\n\tover_append(order, space_at(order, giver), giver);\n',
      '',
    ],
    [
      'a pair that is used again stays the oldest',
      'if (is_own && pair->state == TD_PAIR_LINKED &&',
      'if (0 &&',
    ],
    [
      'a limit is none',
      'if (name->space == TD_SPACE_OFFERS || space->used < space->limit)',
      'if (1)',
    ],
  ]),
  ...of(17, 'bpf/include/tandem/order_lists.h', orders, [
    [
      'whoever is over its share is not found',
      'if (space->used > space->share && !space->is_over)',
      'if (0)',
    ],
    [
      'whoever is at its share gives',
      'if (space->used > space->share && !space->is_over)',
      'if (space->used >= space->share && !space->is_over)',
    ],
  ]),
  ...of(17, 'packages/agent/src/policy/learned-shares.ts', inAgent('policy/learned-shares'), [
    [
      'shares together are more than the map',
      'Math.floor(TD_PLACES_MAX / Math.max(1, wanted.size))',
      'TD_PLACES_MAX',
    ],
  ]),
  ...of(18, 'bpf/src/judge.bpf.c', judged, [
    [
      'a packet for a former pod reaches the next one',
      'return j->destination.id && !is_local_in(j) && !j->is_delivered;',
      'return false;',
    ],
    [
      "a member's reply to a former pod reaches the next one",
      'return is_astray(j) ? TD_COUNT_DROP_UNKNOWN_POD : TD_COUNT_HOST;',
      'return TD_COUNT_HOST;',
    ],
  ]),
  ...of(18, 'bpf/src/judgement.h', judged, [
    [
      'a bridge leads to a pod whose port is gone',
      'return is_pod_device(endpoint->veth_ifindex);',
      'return true;',
    ],
  ]),
  ...of(18, 'packages/agent/src/gate/enforced-pods.ts', inAgent('gate/enforced-pods'), [
    [
      'a pod starts under the policy of a former sandbox',
      'if (endpoint.sandboxId !== containerId)',
      'if (false)',
    ],
    [
      'a pod starts while its former interface is enforced',
      'if (interfaceName !== null && name !== interfaceName)',
      'if (false)',
    ],
  ]),
  ...of(19, 'bpf/src/judge.bpf.c', judged, [
    [
      'the node is the world under an address that is not its own',
      'if (!is_node(&class))\n\t\tclass = class_of(&loopback);',
      '(void)loopback;',
    ],
    ['a pod reaches a loopback address', 'if (is_at_loopback(j))', 'if (0)'],
  ]),
  ...of(19, 'bpf/src/judge.bpf.c', inTests('judge-fqdn'), [
    ['a name that was learned opens the node', 'class.flags |= TD_CLASS_NODE;', ''],
  ]),
  ...of(19, 'bpf/src/judge_policy.h', judged, [
    [
      'a rule that denies a group does not deny it at the node',
      'if (is_local_in(j) && search.answer.verdict != TD_VERDICT_DENY)',
      'if (0)',
    ],
  ]),
  ...of(20, 'packages/netlink/src/route-view.ts', inAgent('endpoint/learned-routes'), [
    [
      'a router advertisement makes an uplink',
      '  RTPROT_RA,\n  RTPROT_DHCP,\n]',
      '  RTPROT_DHCP,\n]',
    ],
    [
      'an advertised prefix makes an uplink',
      '  RTPROT_KERNEL,\n  RTPROT_RA,\n  RTPROT_DHCP,\n]',
      '  RTPROT_RA,\n  RTPROT_DHCP,\n]',
    ],
    [
      'a redirect makes an uplink',
      '  RTPROT_REDIRECT,\n  RTPROT_KERNEL,\n  RTPROT_RA,\n  RTPROT_DHCP,\n]',
      '  RTPROT_KERNEL,\n  RTPROT_RA,\n  RTPROT_DHCP,\n]',
    ],
    [
      'a DHCP server of a pod makes an uplink',
      '  RTPROT_RA,\n  RTPROT_DHCP,\n]',
      '  RTPROT_RA,\n]',
    ],
  ]),
  ...of(
    20,
    'packages/agent/src/endpoint/pod-interface.ts',
    inAgent('endpoint/endpoint-interfaces'),
    [
      ['an uplink is taken for a pod', '  if (isTrusted) {', '  if (false) {'],
      ["the node's own pair is taken for a pod", 'if (link.linkNetnsId === null)', 'if (false)'],
      [
        'a route to a bridge tells a port',
        "return link?.kind === 'bridge' ? undefined : link;",
        'return link;',
      ],
    ],
  ),
  ...of(
    20,
    'packages/agent/src/endpoint/endpoint-interfaces.ts',
    inAgent('endpoint/endpoint-interfaces'),
    [
      ["another pod's interface is taken", 'if (owner !== undefined)', 'if (false)'],
      ['the interface of a pod changes', 'if (known.has(endpointId)) continue;', ''],
      [
        'the interface of a pod that ended is kept',
        'if (!state.links.has(kept.ifindex) || !isAttached(kept.ifindex)) {',
        'if (false) {',
      ],
      [
        'a pod with the Ethernet address of a router is taken',
        'if (problem === null) return',
        'return',
      ],
    ],
  ),
  ...nameMutations,
];
