// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { exitCode } from '../exit-codes.ts';
import { Printer } from '../output/printer.ts';
import { Kubectl } from './kubectl.ts';
import { listBytesMax } from './limits.ts';
import { listedObjects, runPolicyValidate, validateBeside } from './policy-command.ts';

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

test('a file may be named as the cluster is', () => {
  const { findings } = validateBeside([namespace], {
    ...{ files: ['cluster'], problems: [] },
    objects: [{ file: 'cluster', document: 1, raw: policy(wrong), lineOf: () => 3 }],
  });
  assert.deepEqual(
    findings.map(({ file, field }) => [file, field]),
    [['cluster', 'spec.egress[0].toCIDR[0]']],
  );
  const problem = { file: 'cluster', document: 0, line: 0, message: 'is too large' };
  const whole = validateBeside([policy(wrong)], { ...none, files: ['b'], problems: [problem] });
  assert.deepEqual(
    whole.findings.map(({ message }) => message),
    ['is too large'],
  );
});

test('a file replaces an object whose namespace it leaves out, or says for nothing', () => {
  const inDefault = { ...policy(good), metadata: { name: 'web', namespace: 'default' } };
  const clusterwide = (metadata: object): object => ({
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumClusterwideNetworkPolicy', metadata },
    spec: good,
  });
  const standard = { ...namespace, metadata: { name: 'default' } };
  for (const [inCluster, given] of [
    [inDefault, { ...policy(good), metadata: { name: 'web' } }],
    [inDefault, { ...policy(good), metadata: { name: 'web', namespace: '' } }],
    [clusterwide({ name: 'web' }), clusterwide({ name: 'web', namespace: 'shop' })],
    [clusterwide({ name: 'web' }), clusterwide({ name: 'web', namespace: '' })],
  ] as const) {
    const { findings } = validateBeside([namespace, standard, inCluster], ofFile(given));
    const codes = findings.map(({ code }) => code);
    assert.ok(!codes.includes('duplicate'), JSON.stringify([given, findings]));
  }
});

const directory = mkdtempSync(join(tmpdir(), 'tandem-kubectl-'));
after(() => rmSync(directory, { recursive: true, force: true }));

/** Exit code, JSON on stdout and error of `kubectl tandem policy validate -f ...` with this shell script as kubectl. */
async function validated(script: string, files: readonly string[] = []) {
  const program = join(directory, 'kubectl');
  writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const written: string[] = [];
  const stream = {
    ...{ isTTY: false, writableNeedDrain: false },
    write: (text: string) => written.push(text) > 0,
  } as unknown as ConstructorParameters<typeof Printer>[0];
  const { signal } = new AbortController();
  const kubectl = new Kubectl({ flags: ['--context=c'], timeoutMs: 1, signal, program });
  const context = {
    ...{ kubectl, out: new Printer(stream, {}), notes: new Printer(stream, {}), signal },
    ...{ wantsJson: true, nodes: [], nowMs: () => 0 },
  };
  const code = await runPolicyValidate(context, { files, isRecursive: false, isStrict: false });
  return { code, answer: JSON.parse(written.join('')) as { findings: readonly object[] } };
}

test('kubectl is asked for each kind, for longer than a node, and kinds that there are not are none', async () => {
  writeFileSync(join(directory, 'list'), JSON.stringify({ items: [policy(wrong)] }));
  writeFileSync(join(directory, 'a.yaml'), JSON.stringify(policy(good)));
  const script = `[ "$1 $2 $4 $5" = "--context=c get --all-namespaces --output=json" ] || exit 9
case $3 in
ciliumnetworkpolicies.cilium.io) cat ${directory}/list ;;
namespaces) echo '{"items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}]}' ;;
*.cilium.io) echo "error: the server doesn't have a resource type $3" >&2; exit 1 ;;
*) echo '{"items":[]}' ;;
esac`;
  const { code, answer } = await validated(script);
  assert.equal(code, exitCode.problem);
  assert.equal(answer.findings.length, 1);
  const replaced = await validated(script, [join(directory, 'a.yaml')]);
  assert.equal(replaced.code, exitCode.ok, JSON.stringify(replaced.answer));
});

test('a list that kubectl does not give whole is an error that says what to do', async () => {
  await assert.rejects(
    validated('echo "error: forbidden" >&2; exit 1'),
    /get [.a-z]+: .*forbidden/,
  );
  const long = `[ "$3" = pods ] || { echo '{}'; exit; }\nhead -c ${listBytesMax + 1} /dev/zero`;
  await assert.rejects(validated(long), /get pods has more than 256 MiB.* tandem policy validate/);
  const late = { code: null, stdout: '', stderr: '', isLate: true, isCut: false };
  assert.throws(() => listedObjects('pods', late), /get pods gave no answer .*raise --timeout/);
});
