// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Common mistakes of people's policies, a file each: the answer of `tandem policy validate`, where one object, or the files together, decide it.
 * Most are from public issues and articles.
 */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readFiles } from './read-files.ts';
import { validateObjects } from './validate-objects.ts';

const directory = fileURLToPath(new URL('../../test/fixtures/mistakes', import.meta.url));

/** File, severity of the finding, and its text; 'none': no mistake, or one that only the cluster shows. */
const rows: readonly (readonly [
  file: string,
  severity: 'error' | 'warning' | 'none',
  text?: RegExp,
])[] = [
  ['01-empty-ingress-as-deny', 'error', /an empty list is none, default deny is \[{}\]/],
  ['02-egress-brace-as-allow-all', 'warning', /{} allows nothing .*write toEntities: \[all\]/],
  ['03-toFQDNs-without-any-dns-rule', 'warning', /needs a rule that says which names/],
  ['04-toFQDNs-with-L4-only-dns', 'warning', /needs a rule that says which names/],
  ['05-dns-names-miss-toFQDNs-name', 'warning', /is in no rules.dns of these pods/],
  ['06-dns-udp-only', 'warning', /DNS over UDP alone.*protocol: ANY/],
  ['07-kube-dns-without-namespace', 'warning', /add k8s:io.kubernetes.pod.namespace: kube-system/],
  ['08-wildcard-in-matchName', 'error', /use matchPattern for "\*"/],
  ['09-url-in-matchName', 'error', /write the name of the host alone/],
  // The apex may be left out on purpose: docs/policy.md has the table of stars.
  ['10-apex-expected-of-star', 'none'],
  ['11-regex-in-matchPattern', 'error', /it is no regular expression/],
  ['12-toFQDNs-names-cluster-service', 'warning', /is a name of the cluster.*toEndpoints/],
  ['13-two-peer-kinds', 'error', /combining toCIDR and toFQDNs.*write a rule for each/],
  ['14-port-as-number', 'error', /is the number 443, but must be a text: put it in quotes/],
  ['15-k8s-fields-in-cnp', 'error', /podSelector is not supported: write endpointSelector/],
  ['15b-namespaceSelector-in-toEndpoints', 'error', /write the label k8s:io.kubernetes.pod.name/],
  ['16-toCIDR-for-clusterIP', 'warning', /addresses of a Service/],
  ['17-toPorts-own-list-item', 'warning', /without the dash before toPorts/],
  ['18-lowercase-protocol', 'warning', /write TCP/],
  ['19-port-range-as-text', 'error', /write port: "8000" and endPort: 8100/],
  ['20-unknown-entity', 'error', /no known entity: use one of all/],
  ['21-except-outside', 'error', /192.168.0.0\/16 is not inside 10.0.0.0\/8/],
  ['22-named-port', 'error', /named port "http" is not supported: write its number/],
  ['23-clusterwide-with-namespace', 'warning', /counts for nothing.*every namespace/],
  ['24-wrong-apiVersion', 'error', /"cilium.io\/v1", but must be cilium.io\/v2/],
  ['25-fromFQDNs', 'error', /write fromCIDR/],
  ['26-toFQDNs-in-deny', 'error', /a deny rule cannot name FQDNs, use toCIDRSet/],
  ['27-egressDeny-alone', 'warning', /enableDefaultDeny: {egress: false}/],
  ['28-egress-top-level-indent', 'error', /indent it under spec/],
  ['29-selector-forgotten', 'error', /must have one of EndpointSelector or NodeSelector/],
  ['30-matchLabels-forgotten', 'error', /put it under matchLabels/],
  ['31-rules-beside-toPorts', 'error', /belongs to an item of toPorts/],
  ['32-dns-port-of-service-not-backend', 'warning', /5353/],
  // Right: it means the pods of the policy's own namespace.
  ['33-fromEndpoints-brace-all-namespaces', 'none'],
  ['34-allow-inside-broader-deny', 'warning', /deny wins: take them out/],
  ['35-dns-pattern-without-star-label', 'warning', /add toFQDNs/],
  ['36-http-beside-toFQDNs', 'error', /remove rules, and the port is allowed whole/],
  ['37-toServices-kube-apiserver', 'error', /the API server with toEntities kube-apiserver/],
  ['38-icmp', 'error', /a rule for ICMP alone cannot be written/],
  ['39-entity-ingress', 'warning', /matches nothing here, so traffic that Cilium's Ingress/],
  ['40-knp', 'none'],
  ['41-anchors-merge', 'none'],
  ['42-creationTimestamp-null', 'warning', /{} allows nothing/],
  ['43-flux-imagepolicy', 'error', /is a policy that this version does not enforce/],
  ['44-empty-matchPattern-item', 'warning', /names nothing, so it allows nothing/],
  ['46-cnp-list', 'warning', /{} allows nothing/],
  ['47-any-key-toplevel', 'error', /is no known field here/],
  ['48-toports-empty-item', 'error', /names no port: list ports, or remove the element/],
  ['49-node-local-dns', 'warning', /add toFQDNs/],
  ['50-host-entity-for-node-local-dns', 'warning', /add toFQDNs/],
];

for (const [file, severity, text] of rows) {
  test(`${file}: ${severity}`, () => {
    const { findings } = validateObjects(readFiles(`${directory}/${file}.yaml`));
    if (text === undefined) {
      assert.deepEqual(findings, []);
      return;
    }
    const found = findings.filter((finding) => text.test(`${finding.field} ${finding.message}`));
    assert.deepEqual(
      found.slice(0, 1).map((finding) => finding.severity),
      [severity],
      JSON.stringify(findings),
    );
    // A warning alone leaves the file valid.
    assert.equal(
      findings.some((finding) => finding.severity === 'error'),
      severity === 'error',
    );
  });
}

test('each file has its answer here', () => {
  const files = readdirSync(directory).map((name) => name.replace(/\.yaml$/, ''));
  assert.deepEqual(rows.map(([file]) => file).toSorted(), files.toSorted());
});
