// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { validateBeside } from './policy-command.ts';

const none = { files: [], objects: [], problems: [] };
const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } };
const policy = (spec: object, version = 'v2'): object => ({
  ...{ apiVersion: `cilium.io/${version}`, kind: 'CiliumNetworkPolicy' },
  metadata: { name: 'web', namespace: 'shop', uid: 'x', resourceVersion: '1' },
  spec,
  status: { conditions: [] },
});
const good = { endpointSelector: {}, egress: [{ toCIDR: ['192.0.2.0/24'] }] };
const wrong = { endpointSelector: {}, egress: [{ toCIDR: ['192.0.2.0/240'] }] };
const ofFile = (raw: object) => ({
  ...{ files: ['a.yaml'], problems: [] },
  objects: [{ file: 'a.yaml', document: 1, raw, lineOf: () => 3 }],
});

test('policies of the cluster are judged as the agents do', () => {
  assert.deepEqual(validateBeside([namespace, policy(good)], none).findings, []);
  const { policies, findings } = validateBeside([namespace, policy(wrong)], none);
  assert.equal(policies, 0);
  assert.deepEqual(
    findings.map(({ file, object, field }) => [file, object, field]),
    [['cluster', 'CiliumNetworkPolicy shop/web', 'spec.egress[0].toCIDR[0]']],
  );
});

test('a file takes the place of the object that it would replace, and is judged alone', () => {
  const other = { ...policy(wrong), metadata: { name: 'other', namespace: 'shop' } };
  const cluster = [namespace, policy(wrong), other];
  assert.deepEqual(validateBeside(cluster, ofFile(policy(good))), {
    ...{ files: 1, objects: 1, policies: 1, passedOver: 0, findings: [] },
  });
  const { findings } = validateBeside([namespace, policy(good)], ofFile(policy(wrong)));
  assert.deepEqual(
    findings.map(({ file, line }) => [file, line]),
    [['a.yaml', 3]],
  );
});

test('a policy of a file names Services of the cluster', () => {
  const egress = [{ toFQDNs: [{ matchName: 'a.example' }] }];
  const rule = {
    toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system' } }],
    toPorts: [
      { ports: [{ port: '5353', protocol: 'ANY' }], rules: { dns: [{ matchName: 'a.example' }] } },
    ],
  };
  const contents = ofFile(policy({ endpointSelector: {}, egress: [...egress, rule] }));
  const system = { ...namespace, metadata: { name: 'kube-system' } };
  const dns = {
    ...{ apiVersion: 'v1', kind: 'Service' },
    metadata: { name: 'kube-dns', namespace: 'kube-system' },
    spec: {
      clusterIP: '10.96.0.10',
      ...{ clusterIPs: ['10.96.0.10'], selector: { 'k8s-app': 'kube-dns' } },
      ports: [{ name: 'dns', port: 53, protocol: 'UDP', targetPort: 53 }],
    },
  };
  const pod = {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: { name: 'dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
    ...{ spec: { nodeName: 'n1' }, status: { podIPs: [{ ip: '10.244.1.5' }] } },
  };
  const codes = validateBeside([namespace, system, dns, pod], contents).findings.map(
    ({ code }) => code,
  );
  assert.deepEqual(codes, ['dns-backend-port']);
});
