// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { K8sObject, PolicyObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { ServiceHints } from './service-hints.ts';

type Body = Readonly<Record<string, unknown>>;

function parsed(raw: Body): K8sObject {
  const result = parseObject(raw);
  assert.ok(result.ok);
  return result.value;
}

const service = (ports: readonly Body[], namespace = 'shop'): K8sObject =>
  parsed({
    ...{ apiVersion: 'v1', kind: 'Service', metadata: { namespace, name: 'web' } },
    spec: { selector: { app: 'web', tier: 'front' }, clusterIP: '10.96.0.7', ports },
  });
const policy = (spec: Body): K8sObject =>
  parsed({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    ...{ metadata: { namespace: 'shop', name: 'p' }, spec },
  });
const web = { matchLabels: { app: 'web' } };
const http = [{ port: 80, targetPort: 8080 }];
const ingress = (...ports: readonly Body[]): K8sObject =>
  policy({ podSelector: web, ingress: [{ ports }] });
const egressTo = (cidr: string): K8sObject =>
  policy({ podSelector: web, policyTypes: ['Egress'], egress: [{ to: [{ ipBlock: { cidr } }] }] });

const cases: Readonly<Record<string, { objects: readonly K8sObject[]; want: string }>> = {
  'the port of the Service': {
    objects: [ingress({ port: 80 }), service(http)],
    want: 'spec.ingress[0].ports[0].port 80 is the port of Service web, and policy applies to its pods: write their port 8080',
  },
  'both ports': { objects: [ingress({ port: 80 }, { port: 8080 }), service(http)], want: '' },
  'a range that has both': {
    objects: [ingress({ port: 80 }, { port: 8000, endPort: 9000 }), service(http)],
    want: '',
  },
  'a named port beside it': {
    objects: [ingress({ port: 80 }, { port: 'http' }), service(http)],
    want: '',
  },
  'another protocol': {
    objects: [ingress({ port: 80, protocol: 'UDP' }), service(http)],
    want: '',
  },
  'pods that listen on the port of the Service': {
    objects: [ingress({ port: 80 }), service([{ port: 80 }])],
    want: '',
  },
  'a Service of another namespace': {
    objects: [ingress({ port: 80 }), service(http, 'other')],
    want: '',
  },
  'a Service of other pods': {
    objects: [
      policy({ podSelector: { matchLabels: { app: 'db' } }, ingress: [{ ports: [{ port: 80 }] }] }),
      service(http),
    ],
    want: '',
  },
  'a rule for every port beside it': {
    objects: [
      policy({ podSelector: web, ingress: [{ ports: [{ port: 80 }] }, {}] }),
      service(http),
    ],
    want: '',
  },
  'the ClusterIP in an ipBlock': {
    objects: [egressTo('10.96.0.7/32'), service(http)],
    want: 'spec.egress[0].to[0].ipBlock.cidr is the ClusterIP of Service shop/web, and policy applies to the pods behind it: select them with podSelector and namespaceSelector, unless a cache on the node has this address',
  },
  'another address': { objects: [egressTo('10.96.0.8/32'), service(http)], want: '' },
  'a wide prefix': { objects: [egressTo('10.0.0.0/8'), service(http)], want: '' },
};

for (const [name, { objects, want }] of Object.entries(cases)) {
  test(`a NetworkPolicy with ${name}`, () => {
    const hints = new ServiceHints(objects).of(objects[0] as PolicyObject);
    assert.equal(hints.map(({ path, message }) => `${path} ${message}`).join('\n'), want);
  });
}
