// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Redactor } from './redact.ts';
import { withoutSecrets } from './without-secrets.ts';

const redactor = new Redactor(['web-1', 'web', 'shop', 'node-a', 'kube-system', 'payments-db']);

test('names, addresses and DNS names become marks, the same ones the same', () => {
  const text = redactor.text(
    'pod shop/web-1 on node-a asked api.Partner.example. of 10.96.0.10 and fd00:1::11, web-1 got 10.96.0.10',
  );
  for (const secret of ['shop', 'web-1', 'node-a', 'artner', '10.96', 'fd00'])
    assert.ok(!text.includes(secret), `${secret} in ${text}`);
  const [first, second] = text.match(/<ipv4:\d+>/g) ?? [];
  assert.equal(first, second);
  assert.equal(text.match(/<name:\d+>/g)?.length, 4);
});

test('what says nothing of the cluster stays', () => {
  const text =
    '2026-11-29T12:00:00.123Z info kube-system/tandem-agent revision 12: networking.k8s.io/v1 status.json port 10053, 3.5 ms, io.kubernetes.pod.namespace';
  assert.equal(text, redactor.text(text).replace(/<dns:\d+>/, 'io.kubernetes.pod.namespace'));
});

test('a name within another is not taken for it', () => {
  assert.equal(redactor.text('webhook shopping'), 'webhook shopping');
});

test('two sysdumps have nothing in common', () => {
  assert.notEqual(new Redactor(['shop']).text('shop'), new Redactor(['shop']).text('shop'));
});

test('property: no address is left, whatever stands around it', () => {
  const address = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter((text) => /^[\da-f:]+$/i.test(text) && text.length > 4),
  );
  fc.assert(
    fc.property(address, fc.constantFrom(' ', '"', '[', '(', ',', '=', '/'), (text, around) => {
      const redacted = redactor.text(`${around}${text}${around}`);
      assert.ok(!redacted.includes(text), `${text} in ${redacted}`);
    }),
  );
});

test('labels and selectors decide, whatever their names', () => {
  const labels = { env: 'prod', data: 'x', command: 'x', args: 'x', annotations: 'x' };
  const object = { metadata: { labels }, spec: { endpointSelector: { matchLabels: labels } } };
  assert.deepEqual(JSON.parse(withoutSecrets(JSON.stringify(object))), object);
});

test('objects keep what decides and lose what may be secret', () => {
  const list = {
    items: [
      {
        metadata: {
          name: 'web',
          managedFields: [{}],
          annotations: { 'tandem.dev/interface': 'veth1', 'kubectl.kubernetes.io/last': '{}' },
        },
        spec: {
          containers: [
            {
              ...{ name: 'c', env: [{ name: 'PASSWORD', value: 'x' }], ports: [{}] },
              ...{ args: ['--password=x'], command: ['x'], envFrom: [{}] },
              livenessProbe: { httpGet: { httpHeaders: [{ name: 'Authorization', value: 'x' }] } },
            },
          ],
          volumes: [{ csi: { volumeAttributes: { password: 'x' } } }],
        },
        ...{ data: { password: 'x' }, stringData: { password: 'x' } },
      },
    ],
  };
  assert.deepEqual(JSON.parse(withoutSecrets(JSON.stringify(list))), {
    items: [
      {
        metadata: { name: 'web', annotations: { 'tandem.dev/interface': 'veth1' } },
        spec: {
          containers: [{ name: 'c', ports: [{}], livenessProbe: { httpGet: {} } }],
          volumes: [{ csi: {} }],
        },
      },
    ],
  });
});
