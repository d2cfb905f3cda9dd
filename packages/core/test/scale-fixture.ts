// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A large cluster: 500 pods here, 10,000 elsewhere, 200 policies with 10,000 FQDN patterns together. */

import {
  basicObjects,
  cnp,
  dnsRule,
  kubeDns,
  namespace,
  nodeObject,
  pod,
  type Raw,
} from './cluster-fixture.ts';

const localPods = 500;
const remotePods = 10_000;
const policies = 200;
const patternsPerPolicy = 50;
const namespaces = 50;

/** All objects of the large cluster, seen from node "one". */
export function largeCluster(): readonly Raw[] {
  const list: Raw[] = [...basicObjects];
  for (let index = 0; index < namespaces; index++) {
    list.push(namespace(`n${index}`, { team: `t${index % 7}` }));
  }
  list.push(nodeObject('three', '192.168.0.3', '10.100.0.0/16'));
  for (let index = 0; index < localPods; index++) {
    const ip = `10.245.${index >> 8}.${index & 255}`;
    list.push(pod(`n${index % namespaces}/p${index}`, { app: `a${index % 20}` }, 'one', ip));
  }
  for (let index = 0; index < remotePods; index++) {
    const ip = `10.100.${index >> 8}.${index & 255}`;
    list.push(pod(`n${index % namespaces}/r${index}`, { app: `a${index % 40}` }, 'three', ip));
  }
  for (let index = 0; index < policies; index++) list.push(policy(index));
  return list;
}

/** Names of its own, DNS, a few peers; every fourth one picks all pods of its namespace. */
function policy(index: number): Raw {
  const names = Array.from({ length: patternsPerPolicy }, (_, n) => ({
    matchPattern: `*.s${n}.p${index}.example`,
  }));
  return cnp(`n${index % namespaces}/policy${index}`, {
    endpointSelector: index % 4 === 0 ? {} : { matchLabels: { app: `a${index % 20}` } },
    egress: [
      {
        toEndpoints: [kubeDns],
        toPorts: dnsRule(...names.map(({ matchPattern }) => matchPattern)),
      },
      { toFQDNs: names, toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] },
      { toEndpoints: [{ matchLabels: { app: `a${index % 40}` } }] },
      { toCIDRSet: [{ cidr: '203.0.113.0/24', except: [`203.0.113.${index}/32`] }] },
    ],
    egressDeny: [{ toCIDR: ['169.254.169.254/32'] }],
  });
}
