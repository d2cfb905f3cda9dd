// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Every hard error of the subset: the object is invalid, and the message names the field. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Body, dns53, errorsOf, many } from '../../../test/policy-fixture.ts';

const errorTable: readonly (readonly [name: string, spec: Body, want: RegExp])[] = [
  // Fields that stand elsewhere, and what is often written in their place.
  ['letters of another case', { ingress: [{ fromentities: [] }] }, /here: write fromEntities$/],
  ['the other direction', { egress: [{ fromEndpoints: [{}] }] }, /other direction: write toEndp/],
  ['and the other one', { ingress: [{ toCIDRSet: [] }] }, /direction: write fromCIDRSet/],
  ['a name alone', { egress: [{ toFQDNs: ['a.test'] }] }, /write {matchName: "a.test"}/],
  ['a pattern alone', { egress: [{ toFQDNs: ['*.test'] }] }, /write {matchPattern: "\*.test"}/],
  [
    'a port of a name',
    { egress: [{ toFQDNs: [{ matchName: 'a', port: '443' }] }] },
    /ports are in toPorts, beside the list of names/,
  ],
  ['a mapping in toCIDR', { egress: [{ toCIDR: [{ cidr: '::/0' }] }] }, /are for toCIDRSet/],
  ['a name in toCIDR', { egress: [{ toCIDR: ['a.test'] }] }, /names are for toFQDNs/],
  ['a text in toCIDRSet', { egress: [{ toCIDRSet: ['::/0'] }] }, /write {cidr: ::\/0}/],
  [
    'a port beside ports',
    { egress: [{ toPorts: [{ port: '80' }] }] },
    /belongs to an item of ports/,
  ],
  [
    'DNS names beside ports',
    { egress: [{ toPorts: [{ ports: [{ port: '53' }], dns: [] }] }] },
    /dns is not supported: put it under rules/,
  ],
  [
    'ports in one text',
    { egress: [{ toPorts: [{ ports: [{ port: '80,443' }] }] }] },
    /is no port number: write an item for each/,
  ],
  ['every port', { egress: [{ toPorts: [{ ports: [{ port: '*' }] }] }] }, /write "0" for every/],
  ['no section', {}, /^spec rule must have at least one of Ingress/],
  ['ingress: []', { ingress: [] }, /^spec rule must have at least one of Ingress/],
  [
    'all sections empty',
    { ingress: [], egress: [], egressDeny: [], ingressDeny: [] },
    /at least one/,
  ],
  [
    'both selectors',
    { nodeSelector: {}, egress: [{}] },
    /cannot have both EndpointSelector and NodeS/,
  ],
  [
    'no selector',
    { endpointSelector: undefined, egress: [{}] },
    /must have one of EndpointSelector/,
  ],
  [
    'nodeSelector',
    { endpointSelector: undefined, nodeSelector: {}, egress: [{}] },
    /^spec.nodeSelector/,
  ],
  [
    'CIDR and FQDN',
    { egress: [{ toCIDR: ['10.0.0.0/8'], toFQDNs: [{ matchName: 'a' }] }] },
    /^spec.egress\[0\] combining toCIDR and toFQDNs/,
  ],
  [
    'endpoints and entities',
    { egress: [{ toEndpoints: [{}], toEntities: ['world'] }] },
    /combining toEndpoints and toEntities/,
  ],
  [
    'CIDR and CIDRSet',
    { ingress: [{ fromCIDR: ['::/0'], fromCIDRSet: [{ cidr: '::/0' }] }] },
    /combining fromCIDR and fromCIDRSet/,
  ],
  [
    'services and endpoints',
    { egress: [{ toServices: [{}], toEndpoints: [{}] }] },
    /combining toEndpoints and toServices/,
  ],
  [
    'groups and entities',
    { ingress: [{ fromGroups: [{}], fromEntities: ['all'] }] },
    /combining fromEntities and fromGroups/,
  ],
  [
    'empty kind beside another',
    { egressDeny: [{ toEntities: ['world'], toCIDR: [] }] },
    /toCIDR is empty beside/,
  ],
  [
    'icmps',
    { egress: [{ icmps: [{ fields: [{ type: 8 }] }] }] },
    /^spec.egress\[0\].icmps is not supported/,
  ],
  [
    'icmps and ports',
    { egress: [{ icmps: [{}], toPorts: [dns53] }] },
    /icmps may only be present without toPorts/,
  ],
  [
    '41 ports',
    { egress: [{ toPorts: [{ ports: many(41) }] }] },
    /toPorts\[0\].ports has 41 ports, at most 40/,
  ],
  [
    'DNS on ingress',
    { ingress: [{ toPorts: [dns53] }] },
    /rules.dns DNS rules are not allowed on ingress/,
  ],
  [
    'DNS without ports',
    { egress: [{ toPorts: [{ rules: { dns: [{}] } }] }] },
    /ports must name a port for DNS rules/,
  ],
  [
    'DNS with a range',
    { egress: [{ toPorts: [{ ...dns53, ports: [{ port: '53', endPort: 54 }] }] }] },
    /endPort DNS rules do not support port ranges/,
  ],
  [
    'DNS with port 0',
    { egress: [{ toPorts: [{ ...dns53, ports: [{ port: '0' }] }] }] },
    /port must not be 0 for DNS rules/,
  ],
  [
    'DNS over SCTP',
    { egress: [{ toPorts: [{ ...dns53, ports: [{ port: '53', protocol: 'SCTP' }] }] }] },
    /DNS rules are for TCP, UDP or ANY/,
  ],
  [
    'HTTP',
    { egress: [{ toPorts: [{ ports: [{ port: '80' }], rules: { http: [{}] } }] }] },
    /rules.http is not supported/,
  ],
  [
    'kafka',
    { egress: [{ toPorts: [{ ports: [{ port: '80' }], rules: { kafka: [{}] } }] }] },
    /rules.kafka is not supported/,
  ],
  [
    'two L7 kinds',
    { egress: [{ toPorts: [{ ...dns53, rules: { dns: [{}], http: [{}] } }] }] },
    /rules has dns and http, but one/,
  ],
  [
    'L7 on a deny rule',
    { egressDeny: [{ toPorts: [dns53] }] },
    /toPorts\[0\].rules is not supported: a deny rule can name ports only/,
  ],
  [
    'FQDNs on a deny rule',
    { egressDeny: [{ toFQDNs: [{ matchName: 'a.b' }] }] },
    /toFQDNs is not supported: a deny rule/,
  ],
  [
    'FQDNs with DNS rules',
    { egress: [{ toFQDNs: [{ matchName: 'a.b' }], toPorts: [dns53] }] },
    /toFQDNs cannot name DNS servers/,
  ],
  [
    'FQDNs on ingress',
    { ingress: [{ toFQDNs: [{ matchName: 'a.b' }] }] },
    /toFQDNs is no known field/,
  ],
  [
    'unknown entity',
    { egress: [{ toEntities: ['wrold'] }] },
    /toEntities\[0\] the text "wrold" is no known entity/,
  ],
  [
    'cluster-mesh',
    { egress: [{ toEntities: ['cluster-mesh'] }] },
    /cluster-mesh" is not supported/,
  ],
  ['CIDR text', { egress: [{ toCIDR: ['10.0.0'] }] }, /toCIDR\[0\] "10.0.0" is neither/],
  ['CIDR length', { egress: [{ toCIDR: ['10.0.0.0/33'] }] }, /is no prefix/],
  [
    'mapped address',
    { egress: [{ toCIDR: ['::ffff:10.0.0.1'] }] },
    /is neither an IP address nor a prefix/,
  ],
  [
    'CIDRSet needs a prefix',
    { egress: [{ toCIDRSet: [{ cidr: '10.0.0.1' }] }] },
    /toCIDRSet\[0\].cidr "10.0.0.1" is no prefix/,
  ],
  [
    'CIDRSet without a source',
    { egress: [{ toCIDRSet: [{}] }] },
    /exactly one of cidr, cidrGroupRef, cidrGroupSelector, has 0/,
  ],
  [
    'CIDRSet with two sources',
    { egress: [{ toCIDRSet: [{ cidr: '::/0', cidrGroupRef: 'g' }] }] },
    /cidrGroupRef is not supported/,
  ],
  [
    'except outside',
    { egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['11.0.0.0/8'] }] }] },
    /except\[0\] 11.0.0.0\/8 is not inside 10.0.0.0\/8/,
  ],
  [
    'except of another family',
    { egress: [{ toCIDRSet: [{ cidr: '::/0', except: ['10.0.0.0/8'] }] }] },
    /is not inside ::\/0/,
  ],
  [
    'except larger than cidr',
    { egress: [{ toCIDRSet: [{ cidr: '10.0.0.0/8', except: ['0.0.0.0/0'] }] }] },
    /is not inside/,
  ],
  // 9, 12 and the rest of the API that is not in the subset
  ['toNodes', { egress: [{ toNodes: [{}] }] }, /toNodes is not supported/],
  ['fromNodes', { ingress: [{ fromNodes: [{}] }] }, /fromNodes is not supported/],
  ['toRequires', { egress: [{ toRequires: [{}] }] }, /toRequires is not supported/],
  ['fromRequires', { ingress: [{ fromRequires: [{}] }] }, /fromRequires is not supported/],
  ['toServices', { egress: [{ toServices: [{}] }] }, /toServices is not supported/],
  ['toGroups', { egress: [{ toGroups: [{}] }] }, /toGroups is not supported/],
  [
    'authentication',
    { egress: [{ authentication: { mode: 'required' } }] },
    /authentication is not supported/,
  ],
  [
    'listener',
    { egress: [{ toPorts: [{ ports: [{ port: '1' }], listener: {} }] }] },
    /listener is not supported/,
  ],
  [
    'serverNames',
    { egress: [{ toPorts: [{ ports: [{ port: '1' }], serverNames: ['a'] }] }] },
    /serverNames is not supported/,
  ],
  [
    'terminatingTLS',
    { egress: [{ toPorts: [{ ports: [{ port: '1' }], terminatingTLS: {} }] }] },
    /terminatingTLS is not/,
  ],
  [
    'unknown field of a spec',
    { egres: [{}], egress: [{}] },
    /^spec.egres is no known field here: expected endpointSelector/,
  ],
  ['unknown field of an element', { egress: [{ toEndpoint: [] }] }, /toEndpoint is no known field/],
  ['inherited name', { egress: [{ constructor: [] }] }, /constructor is no known field/],
  [
    'matchName with a star',
    { egress: [{ toFQDNs: [{ matchName: '*.a.b' }] }] },
    /toFQDNs\[0\].matchName .*may hold only/,
  ],
  [
    'matchName in letters beyond ASCII',
    { egress: [{ toFQDNs: [{ matchName: 'b\u00fccher.example' }] }] },
    /toFQDNs\[0\].matchName .*may hold only .*: write its ASCII form, .*"xn--"/,
  ],
  [
    'matchPattern with a space',
    { egress: [{ toFQDNs: [{ matchPattern: 'a b' }] }] },
    /toFQDNs\[0\].matchPattern .*may hold only/,
  ],
  [
    '256 characters',
    { egress: [{ toFQDNs: [{ matchName: 'a'.repeat(256) }] }] },
    /matchName has 256 characters/,
  ],
  [
    'bad DNS name',
    { egress: [{ toPorts: [{ ...dns53, rules: { dns: [{ matchName: 'a/b' }] } }] }] },
    /dns\[0\].matchName .*may hold only/,
  ],
  [
    'name and pattern',
    { egress: [{ toFQDNs: [{ matchName: 'a', matchPattern: 'b' }] }] },
    /has both matchName and matchPattern/,
  ],
  // the fix is in the message
  [
    'fields of a NetworkPolicy in a spec',
    { podSelector: {}, egress: [{}] },
    /^spec.podSelector is not supported: write endpointSelector/,
  ],
  [
    'policyTypes',
    { policyTypes: ['Egress'], egress: [{}] },
    /^spec.policyTypes is not supported: the sections that are present decide it/,
  ],
  [
    'peers of a NetworkPolicy',
    { egress: [{ to: [{ namespaceSelector: {} }] }] },
    /^spec.egress\[0\].to is not supported: write toEndpoints, toCIDR or toEntities/,
  ],
  [
    'ports of a NetworkPolicy',
    { egress: [{ ports: [{ port: 53 }] }] },
    /^spec.egress\[0\].ports is not supported: write toPorts, with ports under it/,
  ],
  [
    'namespaceSelector of a peer',
    { egress: [{ toEndpoints: [{ namespaceSelector: {} }] }] },
    /namespaceSelector is not supported: write the label k8s:io.kubernetes.pod.namespace/,
  ],
  [
    'labels without matchLabels',
    { endpointSelector: { app: 'web' }, egress: [{}] },
    /^spec.endpointSelector.app is not supported: put it under matchLabels/,
  ],
  [
    'rules beside toPorts',
    { egress: [{ toPorts: [{ ports: [{ port: '53' }] }], rules: { dns: [{}] } }] },
    /^spec.egress\[0\].rules is not supported: it belongs to an item of toPorts/,
  ],
  [
    'fromFQDNs',
    { ingress: [{ fromFQDNs: [{ matchName: 'a.b' }] }] },
    /fromFQDNs is not supported: names are supported for egress only: write fromCIDR/,
  ],
  [
    'a star is for matchPattern',
    { egress: [{ toFQDNs: [{ matchName: '*.a.b' }] }] },
    /use matchPattern for "\*"$/,
  ],
  [
    'a URL as a name',
    { egress: [{ toFQDNs: [{ matchName: 'https://a.b/v1' }] }] },
    /write the name of the host alone$/,
  ],
  [
    'a port in a name',
    { egress: [{ toFQDNs: [{ matchName: 'a.b:443' }] }] },
    /write the name alone, and the port in toPorts$/,
  ],
  [
    'a regular expression as a pattern',
    { egress: [{ toFQDNs: [{ matchPattern: '^a[0-9]+\\.b$' }] }] },
    /it is no regular expression$/,
  ],
  [
    'http: what to write instead',
    { egress: [{ toPorts: [{ ports: [{ port: '80' }], rules: { http: [{}] } }] }] },
    /remove rules, and the port is allowed whole$/,
  ],
  [
    'icmps: what cannot be written',
    { egress: [{ icmps: [{ fields: [{ type: 8 }] }] }] },
    /a rule for ICMP alone cannot be written/,
  ],
  [
    'toServices: the API server, and a Service without selector',
    { egress: [{ toServices: [{}] }] },
    /toEndpoints, the API server with toEntities kube-apiserver, .* without selector with toCIDR$/,
  ],
  [
    'a range as a port',
    { egress: [{ toPorts: [{ ports: [{ port: '8000-8100' }] }] }] },
    /"8000-8100" is no port number: write port: "8000" and endPort: 8100/,
  ],
  // shapes
  ['null peers', { egress: [{ toEndpoints: null }] }, /toEndpoints is null/],
  ['null section', { egress: null, ingress: [{}] }, /^spec.egress is null/],
  ['null ports', { egress: [{ toPorts: null }] }, /toPorts is null/],
  ['null selector', { endpointSelector: null, egress: [{}] }, /endpointSelector is null/],
  ['section no list', { egress: {} }, /^spec.egress is a mapping, but must be a list/],
  ['element no mapping', { egress: ['x'] }, /^spec.egress\[0\] is the text "x"/],
  [
    'port as a number',
    { egress: [{ toPorts: [{ ports: [{ port: 53 }] }] }] },
    /port is the number 53, but must be a text/,
  ],
  ['port missing', { egress: [{ toPorts: [{ ports: [{}] }] }] }, /port is missing/],
  [
    'port octal',
    { egress: [{ toPorts: [{ ports: [{ port: '053' }] }] }] },
    /"053" is no port number/,
  ],
  [
    'port too large',
    { egress: [{ toPorts: [{ ports: [{ port: '65536' }] }] }] },
    /is no port number/,
  ],
  [
    'named port',
    { egress: [{ toPorts: [{ ports: [{ port: 'dns' }] }] }] },
    /named port "dns" is not supported/,
  ],
  [
    'endPort below port',
    { egress: [{ toPorts: [{ ports: [{ port: '9', endPort: 8 }] }] }] },
    /endPort 8 must not be below/,
  ],
  [
    'endPort of port 0',
    { egress: [{ toPorts: [{ ports: [{ port: '0', endPort: 8 }] }] }] },
    /endPort 8 must not be below/,
  ],
  [
    'endPort too large',
    { egress: [{ toPorts: [{ ports: [{ port: '9', endPort: 70_000 }] }] }] },
    /whole number of 0 to 65535/,
  ],
  [
    'protocol',
    { egress: [{ toPorts: [{ ports: [{ port: '9', protocol: 'VRRP' }] }] }] },
    /"VRRP" is no protocol here/,
  ],
  [
    'ICMP protocol',
    { egress: [{ toPorts: [{ ports: [{ port: '9', protocol: 'ICMP' }] }] }] },
    /ICMP rules are not supported/,
  ],
  ['toPorts without ports', { egress: [{ toPorts: [{}] }] }, /ports names no port/],
  [
    'enableDefaultDeny',
    { egress: [{}], enableDefaultDeny: { egress: 'no' } },
    /enableDefaultDeny.egress is the text "no"/,
  ],
  [
    'enableDefaultDeny field',
    { egress: [{}], enableDefaultDeny: { Egress: false } },
    /Egress is no known field/,
  ],
  [
    'operator',
    {
      endpointSelector: { matchExpressions: [{ key: 'a', operator: 'Gt', values: ['1'] }] },
      egress: [{}],
    },
    /operator must be one of In/,
  ],
  [
    'In without values',
    { endpointSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] }, egress: [{}] },
    /at least one value/,
  ],
  [
    'Exists with values',
    {
      endpointSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] },
      egress: [{}],
    },
    /must be absent/,
  ],
  [
    'label source',
    { endpointSelector: { matchLabels: { 'container:a': 'b' } }, egress: [{}] },
    /label source "container:" is not/,
  ],
  [
    'label value',
    { endpointSelector: { matchLabels: { a: 'b c' } }, egress: [{}] },
    /"b c" is no label value/,
  ],
  [
    'label key',
    { endpointSelector: { matchLabels: { '-a': 'b' } }, egress: [{}] },
    /is no label key/,
  ],
  ['label number', { endpointSelector: { matchLabels: { a: 1 } }, egress: [{}] }, /must be a text/],
  [
    'selector field',
    { endpointSelector: { matchLabel: {} }, egress: [{}] },
    /matchLabel is no known field/,
  ],
  [
    'reserved label',
    { egress: [{ toEndpoints: [{ matchLabels: { 'reserved:all': '' } }] }] },
    /reserved:all is not supported/,
  ],
];

for (const [name, spec, want] of errorTable) {
  test(`error: ${name}`, () => {
    const errors = errorsOf(spec);
    assert(
      errors.some((error) => want.test(error)),
      `${want} in ${JSON.stringify(errors)}`,
    );
  });
}
