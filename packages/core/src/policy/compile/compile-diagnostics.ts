// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Diagnostics of a compilation. Codes are API. */

import type { DiagnosticCode } from '../../codes/diagnostics.ts';
import type { Pattern } from '../../dns/pattern.ts';
import type { Pod } from '../../k8s/objects.ts';
import type { Issue } from '../../k8s/shape.ts';
import { endpointsMax } from '../../limits.ts';
import type { ClusterState, NodeContext, PolicyState } from '../model/cluster-state.ts';
import type { Compiled, Diagnostic } from '../model/desired.ts';
import { EndpointFlag, Verdict } from '../model/kernel-numbers.ts';
import type { PolicyDraft } from '../model/policy-set.ts';
import { formatPolicyRef, type InvalidPolicy, type PolicyRule } from '../model/rule.ts';
import type { Excess } from './fit-costs.ts';

/** In one order whatever order things were found in, without repetition. */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const byText = new Map<string, Diagnostic>();
  for (const diagnostic of diagnostics) {
    const { severity, subject, code, message } = diagnostic;
    byText.set(`${severity}\n${subject}\n${code}\n${message}`, diagnostic);
  }
  const sorted = [...byText].sort(([left], [right]) => (left < right ? -1 : 1));
  return sorted.map(([, diagnostic]) => diagnostic);
}

/** An invalid policy with what stands in for it, and legal oddities. */
export function policyDiagnostics(state: PolicyState): readonly Diagnostic[] {
  const { inForce, invalid, place = '' } = state;
  const diagnostics: Diagnostic[] = [];
  if (invalid !== null) {
    const subject = formatPolicyRef(invalid.ref);
    const fate = fateOf(inForce !== null, invalid);
    for (const issue of invalid.errors) {
      const where = place === '' ? '' : ` (${place})`;
      const message = `${withPath(issue)}${where}; ${fate}`;
      const { code = 'policy-invalid' } = invalid;
      diagnostics.push({ severity: 'error', code, subject, message });
    }
  }
  if (inForce === null) return diagnostics;
  const subject = formatPolicyRef(inForce.ref);
  for (const issue of inForce.warnings) {
    const message = withPath(issue);
    diagnostics.push({ severity: 'warning', code: 'policy-warning', subject, message });
  }
  return diagnostics;
}

function fateOf(hasLastGood: boolean, { holdScope }: InvalidPolicy): string {
  if (hasLastGood) return 'its last valid version stays in force';
  switch (holdScope) {
    case 'selected':
      return 'until it is corrected, the pods it selects are denied everything in the directions it names';
    case 'superset':
      return (
        'its selector cannot be read whole: until it is corrected, all pods that it may select are ' +
        'denied everything in the directions it names'
      );
    case 'none':
      return 'it selects nodes, which policy does not apply to: nothing is enforced for it';
    case 'accepts':
      return 'it only accepts: until it is corrected, it accepts nothing';
    case 'unknown':
      return 'it may select any pod of the cluster, so nothing is enforced for it: correct or remove it at once';
  }
}

function withPath({ path, message }: Issue): string {
  return path === '' ? message : `${path} ${message}`;
}

/** The classic misconfiguration: names in toFQDNs, and no DNS rule through which they could be learned. */
export function fqdnDiagnostics(drafts: readonly PolicyDraft[]): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  for (const { specs, statements } of drafts) {
    if (statements.some(({ verdict }) => verdict === Verdict.l7Dns)) continue;
    for (const { subject, statements: own } of specs) {
      if (!own.some(({ fqdns }) => fqdns.length > 0)) continue;
      diagnostics.push({
        severity: 'warning',
        code: 'fqdn-without-dns',
        subject,
        message:
          'selects pods for which no policy has rules.dns: their DNS is not seen, so toFQDNs learns no ' +
          'address from them. Add a rule with rules.dns for the DNS servers',
      });
    }
  }
  return diagnostics;
}

/** Two ClusterNetworkPolicies of one tier and priority that select one pod: the API leaves open which is asked first. */
export function tierDiagnostics(drafts: readonly PolicyDraft[]): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  for (const { specs } of drafts) {
    const found = new Map<string, string>();
    for (const { spec, subject } of specs.toSorted((one, two) =>
      one.subject < two.subject ? -1 : 1,
    )) {
      if (spec.tier === undefined) continue;
      const { name, priority } = spec.tier;
      const key = `${name} ${priority}`;
      const first = found.get(key);
      if (first === undefined) found.set(key, subject);
      else if (first !== subject) {
        const message = `spec.priority ${priority} is also that of ${first} in the same tier, and both select a pod: the one whose name comes first is asked first, which the API does not promise. Give them different priorities`;
        diagnostics.push({ severity: 'warning', code: 'policy-warning', subject, message });
      }
    }
  }
  return diagnostics;
}

type PodRef = Compiled['endpoints'][number]['pod'];

/** Pods that are held because their labels are not known. */
export function holdDiagnostics(
  endpoints: Compiled['endpoints'],
  cluster: ClusterState,
): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  const add = (pod: PodRef, code: DiagnosticCode, message: string): void => {
    const subject = `Pod/${pod.namespace}/${pod.name}`;
    diagnostics.push({ severity: 'error', code, subject, message });
  };
  for (const { flags, pod } of endpoints) {
    if ((flags & EndpointFlag.hold) === 0) continue;
    if (cluster.pods.get(`${pod.namespace}/${pod.name}`)?.isPartial) {
      const message =
        'is dropped: a policy may select it, and its object cannot be read whole. Correct the object';
      add(pod, 'pod-unreadable', message);
    } else if (!cluster.namespaces.has(`/${pod.namespace}`)) {
      const message = `is dropped: a policy selects by labels of namespaces, and Namespace ${pod.namespace} is not known. Add the object`;
      add(pod, 'namespace-unknown', message);
    }
  }
  return diagnostics;
}

/** Patterns that DNS members can't match, by each object that names them. `rejected`: indices in `patterns`. */
export function patternDiagnostics(
  cluster: ClusterState,
  patterns: readonly Pattern[],
  rejected: readonly { readonly index: number; readonly message: string }[],
): readonly Diagnostic[] {
  const reasons = new Map(rejected.map(({ index, message }) => [patterns[index]?.text, message]));
  if (reasons.size === 0) return [];
  const diagnostics: Diagnostic[] = [];
  for (const { inForce } of cluster.policies.values()) {
    if (inForce === null) continue;
    const texts = inForce.specs.flatMap(({ rules }) => rules.flatMap(patternTexts));
    for (const text of new Set(texts)) {
      const reason = reasons.get(text);
      if (reason === undefined) continue;
      const subject = formatPolicyRef(inForce.ref);
      const message = `${JSON.stringify(text)} matches nothing: ${reason}`;
      diagnostics.push({ severity: 'error', code: 'pattern-rejected', subject, message });
    }
  }
  return diagnostics;
}

function patternTexts({ fqdns, ports }: PolicyRule): readonly string[] {
  const dns = ports === 'any' ? [] : ports.flatMap((port) => port.dns?.patterns ?? []);
  return [...fqdns, ...dns].map(({ text }) => text);
}

/** Resources that are over the capacity of the node when no object is left that could be left out. */
export function excessDiagnostics(excess: readonly Excess[]): readonly Diagnostic[] {
  return excess.map(({ what, count, max }) => ({
    severity: 'error',
    code: 'limit',
    subject: what,
    message: `needs ${count}, there is room for ${max}: the last policy that fits stays in force`,
  }));
}

const nodesShownMax = 3;

/** A name of the node by which the source knows no Node and no pod: every pod of the node counts as unknown then. */
export function nodeDiagnostics(
  { nodes, pods }: ClusterState,
  { nodeName }: NodeContext,
): readonly Diagnostic[] {
  if (nodes.size === 0 || nodes.has(`/${nodeName}`)) return [];
  const others = [...nodes.values()].map(({ name }) => name);
  for (const pod of pods.values()) if (pod.nodeName === nodeName) return [];
  const more = others.length > nodesShownMax ? ', ...' : '';
  return [
    {
      severity: 'error',
      code: 'node-unknown',
      subject: `Node/${nodeName}`,
      message: `does not exist, and no pod is on it, so all traffic of the pods of this node is dropped. Set nodeName to this node's name among ${others.slice(0, nodesShownMax).join(', ')}${more}`,
    },
  ];
}

/** Pods that the map of endpoints has no room for. */
export function crowdedDiagnostics(pods: readonly Pod[]): readonly Diagnostic[] {
  return pods.map(({ namespace, name }) => ({
    severity: 'error',
    code: 'limit',
    subject: `Pod/${namespace}/${name}`,
    message: `has no room: the node carries ${endpointsMax} addresses of pods, so its traffic is dropped`,
  }));
}
