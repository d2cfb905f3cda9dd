// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  address,
  basicObjects,
  cnp,
  compileObjects,
  dnsPorts,
  dnsRule,
  kubeDns,
  pod,
  type Raw,
  serversOf,
  service,
} from '../../../test/cluster-fixture.ts';
import { prefixContains } from '../../net/ip.ts';
import type { Compiled } from '../model/desired.ts';

const web = { matchLabels: { app: 'web' } };

interface Case {
  readonly egress: readonly Raw[];
  readonly egressDeny?: readonly Raw[];
  readonly spec?: Raw;
  readonly objects?: readonly Raw[];
  readonly node?: Raw;
  readonly want: Readonly<Record<string, string>>;
  /** Codes of diagnostics, with their subjects. */
  readonly says?: readonly string[];
}

function compileCase({ egress, egressDeny, spec, objects, node }: Case): Compiled {
  const deny = egressDeny === undefined ? {} : { egressDeny };
  const policy = cnp('shop/p', { endpointSelector: web, egress, ...deny, ...spec });
  return compileObjects([...basicObjects, ...(objects ?? []), policy], { node: node ?? {} });
}

const rule = (peers: Raw, ...patterns: readonly string[]): Raw => ({
  ...peers,
  toPorts: dnsRule(...patterns),
});
const toDns = { toEndpoints: [kubeDns] };
const plain53 = [{ ports: [{ port: '53', protocol: 'UDP' }] }];
const anyProtocol = [{ ports: [{ port: '53' }], rules: { dns: [{ matchName: 'a' }] } }];
const rogue = pod('shop/rogue', { app: 'rogue' }, 'two', '10.244.1.66');
const highPorts = (target: number, port = 53): readonly Raw[] =>
  service(
    'shop/dns',
    '10.96.0.99',
    [{ name: 'dns', port, target, protocol: 'UDP' }],
    '10.244.1.66',
  );
const highRule = {
  toEndpoints: [{ matchLabels: { app: 'rogue' } }],
  toPorts: [{ ports: [{ port: '5353', protocol: 'UDP' }], rules: { dns: [{ matchName: 'a' }] } }],
};

const kubeDnsLabels = { 'k8s-app': 'kube-dns' };
/** The Service of these objects selects pods, on that port of theirs. */
const withSelector = (
  objects: readonly Raw[],
  selector: Raw,
  targetPort?: number | string,
): readonly Raw[] =>
  objects.map((object) => {
    if (object['kind'] !== 'Service') return object;
    const spec = object['spec'] as Raw;
    const ports = (spec['ports'] as readonly Raw[]).map((port) => ({ ...port, targetPort }));
    return { ...object, spec: { ...spec, selector, ports } };
  });

const withoutServer = 'warning dns-rule-without-server CiliumNetworkPolicy/shop/p: spec.egress[0]';

const cases: Readonly<Record<string, Case>> = {
  'pods and the ClusterIP in front of them': {
    egress: [rule(toDns, '*.example')],
    want: { '10.96.0.10/udp': '*.example.', '10.244.1.53/udp': '*.example.' },
  },
  'protocol ANY is UDP and TCP': {
    egress: [{ ...toDns, toPorts: anyProtocol }],
    want: {
      '10.96.0.10/udp': 'a.',
      '10.96.0.10/tcp': 'a.',
      '10.244.1.53/udp': 'a.',
      '10.244.1.53/tcp': 'a.',
    },
  },
  'names of several rules add up': {
    egress: [rule(toDns, 'a'), rule(toDns, 'b', 'a')],
    want: { '10.96.0.10/udp': 'a. b.', '10.244.1.53/udp': 'a. b.' },
  },
  'a bare star is every name': {
    egress: [rule(toDns, 'a', '*')],
    want: { '10.96.0.10/udp': 'all', '10.244.1.53/udp': 'all' },
  },
  'an empty item is no name': {
    egress: [{ ...toDns, toPorts: [{ ...plain53[0], rules: { dns: [{}] } }] }],
    want: { '10.96.0.10/udp': '', '10.244.1.53/udp': '' },
    says: ['warning policy-warning CiliumNetworkPolicy/shop/p'],
  },
  'a plain allow of the very port lifts the names': {
    egress: [rule(toDns, 'a'), { ...toDns, toPorts: plain53 }],
    want: { '10.96.0.10/udp': 'all', '10.244.1.53/udp': 'all' },
  },
  'a plain allow for every peer too': {
    egress: [rule(toDns, 'a'), { toPorts: plain53 }],
    want: { '10.96.0.10/udp': 'all', '10.244.1.53/udp': 'all' },
  },
  'a plain allow without ports, or of a range, does not': {
    egress: [
      rule(toDns, 'a'),
      toDns,
      { ...toDns, toPorts: [{ ports: [{ port: '1', endPort: 1000, protocol: 'UDP' }] }] },
    ],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'no default deny leaves names in force': {
    spec: { enableDefaultDeny: { egress: false } },
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'deny wins': {
    egress: [rule(toDns, 'a')],
    egressDeny: [{ toEntities: ['cluster'], toPorts: plain53 }],
    want: {},
  },
  'deny of another port does not': {
    egress: [rule(toDns, 'a')],
    egressDeny: [{ ...toDns, toPorts: [{ ports: [{ port: '9153' }] }] }],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'deny of one DNS pod refuses the service that may lead to it': {
    objects: [
      pod('kube-system/dns2', { 'k8s-app': 'kube-dns', zone: 'b' }, 'two', '10.244.1.54'),
      ...service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.53', '10.244.1.54'),
    ],
    egress: [rule(toDns, 'a')],
    egressDeny: [
      {
        toEndpoints: [
          { matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', zone: 'b' } },
        ],
      },
    ],
    want: { '10.244.1.53/udp': 'a.' },
  },
  'a service with one backend outside the rule is no server': {
    objects: [
      rogue,
      ...service('shop/mixed', '10.96.0.99', dnsPorts, '10.244.1.53', '10.244.1.66'),
    ],
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'backends with different names permit what both do': {
    objects: [
      rogue,
      ...service('shop/mixed', '10.96.0.99', dnsPorts, '10.244.1.53', '10.244.1.66'),
    ],
    egress: [
      rule(toDns, 'a', 'b'),
      rule({ toEndpoints: [{ matchLabels: { app: 'rogue' } }] }, 'b', 'c'),
    ],
    want: {
      '10.96.0.10/udp': 'a. b.',
      '10.96.0.99/udp': 'b.',
      '10.244.1.53/udp': 'a. b.',
      '10.244.1.66/udp': 'b. c.',
    },
  },
  'a backend port other than 53 behind port 53': {
    objects: [rogue, ...highPorts(5353)],
    egress: [highRule],
    want: { '10.96.0.99/udp': 'a.' },
  },
  'the port of the rule is the backend port, not the frontend’s': {
    objects: [rogue, ...highPorts(5353)],
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'rogue' } }] }, 'a')],
    want: { '10.244.1.66/udp': 'a.' },
    says: ['warning dns-backend-port CiliumNetworkPolicy/shop/p: spec.egress[0]'],
  },
  'a frontend port other than 53 is said, not steered': {
    objects: [rogue, ...highPorts(5353, 5300)],
    egress: [highRule],
    want: {},
    says: ['warning dns-frontend-port Service/shop/dns'],
  },
  'addresses of a CIDR': {
    egress: [rule({ toCIDR: ['203.0.113.4/31', '2001:db8::1'] }, 'a')],
    want: { '203.0.113.4/udp': 'a.', '203.0.113.5/udp': 'a.', '2001:db8::1/udp': 'a.' },
  },
  'a CIDR with a hole': {
    egress: [rule({ toCIDRSet: [{ cidr: '203.0.113.4/30', except: ['203.0.113.6/31'] }] }, 'a')],
    want: { '203.0.113.4/udp': 'a.', '203.0.113.5/udp': 'a.' },
  },
  'a CIDR too large to list is said': {
    egress: [rule({ toCIDR: ['203.0.112.0/23'] }, 'a')],
    want: {},
    says: ['error dns-servers-not-listed CiliumNetworkPolicy/shop/p: spec.egress[0]'],
  },
  'entity world is said': {
    egress: [rule({ toEntities: ['world'] }, 'a')],
    want: {},
    says: ['error dns-servers-not-listed CiliumNetworkPolicy/shop/p: spec.egress[0]'],
  },
  'a CIDR does not reach pods': {
    egress: [rule({ toCIDR: ['10.244.1.53'] }, 'a')],
    want: {},
    says: [withoutServer],
  },
  'nor ClusterIPs': {
    egress: [rule({ toCIDR: ['10.96.0.10/32'] }, 'a')],
    want: {},
    says: [withoutServer],
  },
  'a CIDR of one address is an address of this node, or of another one': {
    node: { localAddresses: ['169.254.20.10', 'fd00:53::10', '192.168.0.1'].map(address) },
    egress: [
      rule({ toCIDR: ['169.254.20.10/32', 'fd00:53::10/128'] }, 'a'),
      rule({ toCIDRSet: [{ cidr: '192.168.0.2/32' }] }, 'b'),
    ],
    want: { '169.254.20.10/udp': 'a.', 'fd00:53::10/udp': 'a.', '192.168.0.2/udp': 'b.' },
  },
  'names of rules by address and by entity add up': {
    egress: [rule({ toCIDR: ['192.168.0.1'] }, 'a'), rule({ toEntities: ['host'] }, 'b')],
    want: { '169.254.1.1/udp': 'b.', '192.168.0.1/udp': 'a. b.' },
  },
  'a longer CIDR does not reach addresses of nodes': {
    egress: [rule({ toCIDR: ['192.168.0.2/31'] }, 'a')],
    want: { '192.168.0.3/udp': 'a.' },
  },
  'not even with nothing else left in it': {
    egress: [rule({ toCIDRSet: [{ cidr: '192.168.0.2/31', except: ['192.168.0.3/32'] }] }, 'a')],
    want: {},
    says: [withoutServer],
  },
  'a plain rule for the address of a node reaches nothing and lifts no names': {
    egress: [rule({ toEntities: ['host'] }, 'a'), { toCIDR: ['192.168.0.1/32'], toPorts: plain53 }],
    want: { '169.254.1.1/udp': 'a.', '192.168.0.1/udp': 'a.' },
  },
  'deny for a CIDR around the address wins over a DNS rule for the address': {
    egress: [rule({ toCIDR: ['169.254.1.1/32', '192.168.0.1/32'] }, 'a')],
    egressDeny: [{ toCIDR: ['169.254.0.0/16'], toPorts: plain53 }],
    want: { '192.168.0.1/udp': 'a.' },
  },
  'unless the deny leaves the address out': {
    egress: [rule({ toCIDR: ['169.254.1.1/32'] }, 'a')],
    egressDeny: [{ toCIDRSet: [{ cidr: '169.254.0.0/16', except: ['169.254.1.0/24'] }] }],
    want: { '169.254.1.1/udp': 'a.' },
  },
  'deny for entity host wins, too': {
    egress: [rule({ toCIDR: ['192.168.0.1/32'] }, 'a')],
    egressDeny: [{ toEntities: ['host'] }],
    want: {},
  },
  'deny for a CIDR does not reach a server that entity host names': {
    egress: [rule({ toEntities: ['host'] }, 'a')],
    egressDeny: [{ toCIDR: ['169.254.0.0/16'] }],
    want: { '169.254.1.1/udp': 'a.', '192.168.0.1/udp': 'a.' },
  },
  'entities remote-node and kube-apiserver': {
    objects: service(
      'default/kubernetes',
      '10.96.0.1',
      [{ name: 'https', port: 443, target: 6443, protocol: 'TCP' }],
      '192.168.0.9',
    ),
    egress: [
      rule({ toEntities: ['remote-node'] }, 'a'),
      rule({ toEntities: ['kube-apiserver'] }, 'b'),
    ],
    want: { '192.168.0.2/udp': 'a.', '192.168.0.9/udp': 'b.' },
  },
  'a node-local cache that is configured, by its address': {
    node: { nodeLocalDns: [address('169.254.20.10')] },
    egress: [rule({ toCIDR: ['169.254.20.10/32'] }, 'a')],
    want: { '169.254.20.10/udp': 'a.' },
  },
  'a link-local resolver that is no address of a node': {
    egress: [rule({ toCIDR: ['169.254.169.254/32'] }, 'a')],
    want: { '169.254.169.254/udp': 'a.' },
  },
  'every peer is the wildcard': {
    egress: [rule({}, 'a')],
    want: { '::/udp': 'a.' },
  },
  'entity all is the wildcard': {
    egress: [rule({ toEntities: ['all'] }, 'a')],
    want: { '::/udp': 'a.' },
  },
  'servers with more names stand beside the wildcard': {
    egress: [rule({}, 'a'), rule(toDns, 'b')],
    want: { '::/udp': 'a.', '10.96.0.10/udp': 'a. b.', '10.244.1.53/udp': 'a. b.' },
  },
  'denied servers beside the wildcard are asked nothing': {
    egress: [rule({}, 'a')],
    egressDeny: [toDns, { toCIDR: ['203.0.113.4'] }],
    want: { '::/udp': 'a.', '10.96.0.10/udp': '', '10.244.1.53/udp': '', '203.0.113.4/udp': '' },
  },
  'a deny that cannot be listed takes the wildcard away': {
    egress: [rule({}, 'a'), rule(toDns, 'b')],
    egressDeny: [{ toCIDR: ['203.0.112.0/20'] }],
    want: { '10.96.0.10/udp': 'a. b.', '10.244.1.53/udp': 'a. b.' },
    says: ['error dns-deny-too-wide CiliumNetworkPolicy/shop/p'],
  },
  'deny for every peer leaves nothing': {
    egress: [rule({}, 'a'), rule(toDns, 'b')],
    egressDeny: [{ toPorts: plain53 }],
    want: {},
  },
  'beside the wildcard a service to an unpoliced port keeps all its names, one to a forbidden port none':
    {
      objects: [
        rogue,
        ...highPorts(5353),
        ...service(
          'shop/open',
          '10.96.0.98',
          [{ name: 'dns', port: 53, target: 5300, protocol: 'UDP' }],
          '10.244.1.66',
        ),
      ],
      egress: [rule({}, 'a'), { toPorts: [{ ports: [{ port: '5300', protocol: 'UDP' }] }] }],
      want: { '::/udp': 'a.', '10.96.0.99/udp': '', '10.96.0.98/udp': 'all' },
    },
  'a node-local cache stands for the DNS pods': {
    node: { nodeLocalDns: [address('169.254.20.10')] },
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.', '169.254.20.10/udp': 'a.' },
  },
  'and for the host': {
    node: { nodeLocalDns: [address('169.254.20.10')] },
    egress: [rule({ toEntities: ['host'] }, 'a')],
    want: { '169.254.1.1/udp': 'a.', '169.254.20.10/udp': 'a.', '192.168.0.1/udp': 'a.' },
  },
  'a node-local cache on the ClusterIP itself': {
    node: { nodeLocalDns: [address('10.96.0.10')] },
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'a node-local cache where DNS pods listen on another port': {
    node: { nodeLocalDns: [address('169.254.20.10')] },
    objects: service(
      'kube-system/kube-dns',
      '10.96.0.10',
      [{ name: 'dns', port: 53, target: 8053, protocol: 'UDP' }],
      '10.244.1.53',
    ),
    egress: [
      {
        ...toDns,
        toPorts: [
          { ports: [{ port: '8053', protocol: 'UDP' }], rules: { dns: [{ matchName: 'a' }] } },
        ],
      },
    ],
    want: { '10.96.0.10/udp': 'a.', '169.254.20.10/udp': 'a.' },
  },
  'families are kept apart': {
    objects: [
      pod('kube-system/dns6', { 'k8s-app': 'kube-dns' }, 'two', 'fd00:244:0:1::53'),
      ...service('kube-system/dns-six', 'fd00:96::10', dnsPorts, 'fd00:244:0:1::53'),
    ],
    egress: [rule(toDns, 'a')],
    want: {
      '10.96.0.10/udp': 'a.',
      '10.244.1.53/udp': 'a.',
      'fd00:96::10/udp': 'a.',
      'fd00:244:0:1::53/udp': 'a.',
    },
  },
  'a DNS pod not known yet does not take the cluster’s resolver away': {
    objects: service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.53', '10.244.1.99'),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'but a tenant’s service, yes': {
    objects: service('shop/alias', '10.96.0.99', dnsPorts, '10.244.1.53', '10.244.1.99'),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'a service without backends leads nowhere': {
    objects: service('kube-system/kube-dns', '10.96.0.10', dnsPorts),
    egress: [rule(toDns, 'a')],
    want: { '10.244.1.53/udp': 'a.' },
  },
  'a service without backends is judged by the pods that it selects': {
    objects: withSelector(service('kube-system/other', '10.96.0.99', dnsPorts), kubeDnsLabels),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.99/udp': 'a.', '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'by their labels': {
    objects: withSelector(service('kube-system/other', '10.96.0.99', dnsPorts), { app: 'other' }),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'by their namespace': {
    objects: withSelector(service('shop/other', '10.96.0.99', dnsPorts), kubeDnsLabels),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'by their port': {
    objects: withSelector(
      service('kube-system/other', '10.96.0.99', dnsPorts),
      kubeDnsLabels,
      5353,
    ),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
    says: ['warning dns-backend-port CiliumNetworkPolicy/shop/p: spec.egress[0]'],
  },
  'not when their port has only a name': {
    objects: withSelector(service('shop/other', '10.96.0.99', dnsPorts), { app: 'rogue' }, 'dns'),
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'rogue' } }] }, 'a')],
    want: {},
    says: ['warning dns-rule-without-server CiliumNetworkPolicy/shop/p: spec.egress[0]'],
  },
  'but for the cluster’s DNS it is the Service’s then': {
    objects: withSelector(
      service('kube-system/other', '10.96.0.99', dnsPorts),
      kubeDnsLabels,
      'dns',
    ),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.99/udp': 'a.', '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'the cluster’s DNS whose pods are all unknown stays a server': {
    objects: withSelector(
      service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.99'),
      kubeDnsLabels,
    ),
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'a tenant’s service whose pods are all unknown does not become one': {
    objects: withSelector(service('shop/alias', '10.96.0.99', dnsPorts, '10.244.1.99'), {
      app: 'rogue',
    }),
    egress: [rule({ toEndpoints: [{ matchLabels: { app: 'rogue' } }] }, 'a')],
    want: {},
    says: ['warning dns-rule-without-server CiliumNetworkPolicy/shop/p: spec.egress[0]'],
  },
  'with backends, those count': {
    objects: [
      rogue,
      ...withSelector(
        service('kube-system/other', '10.96.0.99', dnsPorts, '10.244.1.66'),
        kubeDnsLabels,
      ),
    ],
    egress: [rule(toDns, 'a')],
    want: { '10.96.0.10/udp': 'a.', '10.244.1.53/udp': 'a.' },
  },
  'plain rules are not steered': {
    egress: [{ ...toDns, toPorts: plain53 }],
    want: {},
  },
};

test('an address of a node that a DNS rule names stays closed to other traffic and is never learned', () => {
  const local = address('169.254.20.10');
  const compiled = compileCase({
    node: { localAddresses: [local] },
    egress: [
      rule({ toCIDR: ['169.254.20.10/32'] }, 'a'),
      { toCIDR: ['169.254.20.10/32'], toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }] },
    ],
    want: {},
  });
  assert.deepEqual(serversOf(compiled), { '169.254.20.10/udp': 'a.' });
  assert.equal(compiled.classTable.classesOf.get('cidr 169.254.20.10/32'), undefined);
  assert.ok(compiled.members.neverLearn.some((range) => prefixContains(range, local)));
});

for (const [name, each] of Object.entries(cases)) {
  test(name, () => {
    const compiled = compileCase(each);
    assert.deepEqual(serversOf(compiled), { ...each.want });
    const says = compiled.diagnostics.map(
      ({ severity, code, subject }) => `${severity} ${code} ${subject}`,
    );
    assert.deepEqual(says, each.says ?? []);
    assert.equal(
      compiled.dnsServers.length,
      compiled.members.policies.reduce((sum, { servers }) => sum + servers.length, 0),
    );
  });
}
