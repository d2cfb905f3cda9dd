// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Objects judged by the agent's own parsers, without a cluster: what would be refused, what would not be
 * enforced, what is legal but probably not meant.
 */

import { isDeepStrictEqual } from 'node:util';
import type { DiagnosticCode } from '@tandem/core/codes/diagnostics';
import {
  isClusterwide,
  isPolicyObject,
  type K8sObject,
  type PolicyObject,
} from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { isFields } from '@tandem/core/k8s/shape';
import { kindAdvice } from '@tandem/core/k8s/unsupported-kind';
import { checkDnsRules } from '@tandem/core/policy/compile/dns-file-check';
import { findingsOf } from '@tandem/core/policy/parse/judge-object';
import { CiliumHints } from './cilium-hints.ts';
import { clusterOf } from './cluster-of.ts';
import { DnsIngressHints } from './dns-ingress-hints.ts';
import { LiftedNameHints } from './lifted-name-hints.ts';
import { type Hint, NetworkPolicyHints } from './network-policy-hints.ts';
import { adviceOnTemplate, type FileContents, type FileObject } from './read-files.ts';
import { ServiceHints } from './service-hints.ts';
import { TierHints } from './tier-hints.ts';

/** One element of `findings` in the JSON. */
export interface Finding {
  readonly severity: 'error' | 'warning';
  readonly code: DiagnosticCode;
  readonly file: string;
  /** From 1; 0: the file as a whole. */
  readonly document: number;
  /** From 1; 0: not known. */
  readonly line: number;
  /** "CiliumNetworkPolicy shop/web"; empty when it could not be read. */
  readonly object: string;
  /** "spec.egress[0].toPorts"; empty: the object as a whole. */
  readonly field: string;
  /** Fault and fix. */
  readonly message: string;
}

export interface Validation {
  readonly files: number;
  readonly objects: number;
  /** Valid policies. */
  readonly policies: number;
  /** Objects of kinds that are no policy and that Tandem does not read. */
  readonly passedOver: number;
  readonly findings: readonly Finding[];
}

export function validateObjects(contents: FileContents): Validation {
  const findings: Finding[] = contents.problems.map((problem) => ({
    severity: 'error',
    code: 'yaml',
    object: '',
    field: '',
    ...problem,
  }));
  const places = new Map<string, FileObject>();
  const objects: K8sObject[] = [];
  const valid = new Set<string>();
  const disputed = new Set<string>();
  let ofTools = 0;
  for (const source of contents.objects) {
    const parsed = parseObject(source.raw);
    if (!parsed.ok) {
      if (isOfTool(source) && contents.files.length > 1) {
        ofTools += 1;
        continue;
      }
      for (const { path, message } of parsed.error.issues) {
        const text = message + adviceOn(source);
        findings.push(finding(source, 'object-invalid', parsed.error.subject, path, text));
      }
      continue;
    }
    const subject = subjectOf(parsed.value);
    // A kind that is not read may be in several groups, or clusters.
    if (parsed.value.kind !== 'unsupported') {
      const earlier = places.get(subject);
      if (earlier !== undefined && parsed.value.name !== '') {
        const found = duplicateFinding(parsed.value, earlier, source);
        if (found.severity === 'error') disputed.add(subject);
        findings.push(found);
      }
      places.set(subject, source);
    }
    objects.push(parsed.value);
    const found = validateObject(source, subject, parsed.value);
    const isPolicy = isPolicyObject(parsed.value);
    if (isPolicy && found.every(({ severity }) => severity !== 'error')) valid.add(subject);
    findings.push(...found);
  }
  findings.push(...dnsFindings(objects, places), ...hintFindings(objects, places, valid));
  const policies = valid.difference(disputed).size;
  const passedOver = objects.filter(isForeign).length + ofTools;
  const { files } = contents;
  return {
    ...{ files: files.length, objects: contents.objects.length, policies, passedOver },
    findings,
  };
}

/** Fields of objects, lists and bodies of policies, in lower case as they may be misspelt. */
const objectFields: readonly string[] = [
  ...['kind', 'spec', 'specs', 'items', 'podselector', 'endpointselector'],
];

/** A file for a tool that finds it in the same directory, in which no part of an object stands: values, tasks, charts, patches. */
function isOfTool(source: FileObject): boolean {
  if (isKustomization(source)) return true;
  const { raw } = source;
  const parts: readonly unknown[] = Array.isArray(raw) ? raw : [raw];
  return parts.every(
    (part) =>
      isFields(part) &&
      !Object.keys(part).some((field) => objectFields.includes(field.toLowerCase())),
  );
}

const isKustomization = ({ file }: FileObject): boolean => /(^|\/)kustomization\.ya?ml$/.test(file);

/** For files that no API server reads either. */
function adviceOn(source: FileObject): string {
  return isKustomization(source)
    ? '. It is for kustomize: validate what it builds, -f <(kustomize build DIRECTORY)'
    : '';
}

/**
 * Findings of DNS rules as warnings, because the agent accepts these policies; the queries that they name are dropped
 * nevertheless.
 */
function dnsFindings(
  objects: readonly K8sObject[],
  places: ReadonlyMap<string, FileObject>,
): readonly Finding[] {
  return checkDnsRules(clusterOf(objects)).flatMap(({ code, subject, message, severity }) => {
    // `Kind/namespace/name: field`, where places have `Kind namespace/name`.
    const [object = '', field = ''] = subject.split(': ');
    const name = object.replace('/', ' ');
    const source = places.get(name);
    // A redirect that is none has no effect at all.
    const own = code.startsWith('redirect-') ? severity : 'warning';
    return source === undefined ? [] : [finding(source, code, name, field, message, own)];
  });
}

function hintFindings(
  objects: readonly K8sObject[],
  places: ReadonlyMap<string, FileObject>,
  valid: ReadonlySet<string>,
): readonly Finding[] {
  const kubernetes = new NetworkPolicyHints(objects);
  const cilium = new CiliumHints(objects);
  const ofDnsPods = new DnsIngressHints(objects);
  const ofServices = new ServiceHints(objects);
  const ofTiers = new TierHints(objects);
  const ofNames = new LiftedNameHints(objects);
  return objects.flatMap((object) => {
    const subject = subjectOf(object);
    const source = places.get(subject);
    if (!isPolicyObject(object) || source === undefined || !valid.has(subject)) return [];
    const hints = object.kind === 'NetworkPolicy' ? kubernetes.of(object) : cilium.of(object);
    const more = [ofDnsPods, ofServices, ofTiers, ofNames].flatMap((each) => each.of(object));
    const all = [...hints, ...more, ...namespaceHint(object, source)];
    return all.map(({ path, message }) =>
      finding(source, 'policy-hint', subject, path, message, 'warning'),
    );
  });
}

function validateObject(
  source: FileObject,
  subject: string,
  object: K8sObject,
): readonly Finding[] {
  if (isForeign(object)) return [];
  if (object.kind === 'unsupported') {
    return [
      finding(
        source,
        'kind-unsupported',
        subject,
        'kind',
        `is a policy that this version does not enforce: ${kindAdvice(object)}`,
      ),
    ];
  }
  if (!isPolicyObject(object)) return [];
  return findingsOf(object).map(({ severity, code, path, message }) =>
    finding(source, code, subject, path, message, severity),
  );
}

/** The namespace of a clusterwide object is dropped as it is read. */
function namespaceHint({ kind }: PolicyObject, { raw }: FileObject): readonly Hint[] {
  const metadata = isFields(raw) ? raw['metadata'] : undefined;
  const namespace = isFields(metadata) ? metadata['namespace'] : undefined;
  if (!isClusterwide(kind) || typeof namespace !== 'string') return [];
  const fix =
    kind === 'ClusterNetworkPolicy'
      ? `spec.subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: ${namespace}}}}, or write a NetworkPolicy`
      : `k8s:io.kubernetes.pod.namespace: ${namespace}, or write a CiliumNetworkPolicy`;
  const message = `counts for nothing: the policy is for pods of every namespace. Select those of ${namespace} with ${fix}`;
  return [{ path: 'metadata.namespace', message }];
}

const isForeign = (object: K8sObject): boolean => object.kind === 'unsupported' && !object.isPolicy;

function duplicateFinding(object: K8sObject, earlier: FileObject, source: FileObject): Finding {
  const place = `${earlier.file}:${earlier.lineOf('metadata.name')}`;
  const isSame = isDeepStrictEqual(earlier.raw, source.raw);
  const isDenied = isPolicyObject(object);
  const effect = isDenied
    ? ': none of them is enforced, and the pods that either of the two selects are denied'
    : '';
  const message = isSame
    ? `is also defined in ${place} with the same contents: remove one of them`
    : `is also defined in ${place} with other contents${effect}. Remove one of them, or give it another name`;
  const hasNone = isDenied || object.kind === 'CiliumLocalRedirectPolicy';
  const severity = hasNone && !isSame ? 'error' : 'warning';
  return finding(source, 'duplicate', subjectOf(object), 'metadata.name', message, severity);
}

function subjectOf(object: K8sObject): string {
  const kind = object.kind === 'unsupported' ? object.originalKind : object.kind;
  const name = object.name || '(unnamed)';
  return `${kind} ${object.namespace === '' ? name : `${object.namespace}/${name}`}`;
}

/** For values that a tool replaces before an API server reads them. Messages quote what they refuse. */
function adviceOnValue(field: string, message: string): string {
  if (field === 'sops') return '. The file is encrypted: validate -f <(sops decrypt FILE)';
  const [, quoted = ''] = /("(?:[^"\\]|\\.)*")/.exec(message) ?? [];
  return adviceOnTemplate(quoted);
}

function finding(
  source: FileObject,
  code: DiagnosticCode,
  object: string,
  field: string,
  message: string,
  severity: Finding['severity'] = 'error',
): Finding {
  const { file, document } = source;
  const advice = severity === 'error' ? adviceOnValue(field, message) : '';
  const text = message.replace(/\.$/, advice === '' ? '.' : '') + advice;
  return {
    severity,
    code,
    file,
    document,
    line: source.lineOf(field),
    object,
    field,
    message: text,
  };
}
