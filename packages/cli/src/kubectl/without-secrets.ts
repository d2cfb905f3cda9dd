// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Objects as a sysdump keeps them: without what people put secrets into, and without what fills most of their room. */

/** Environment, arguments, commands and headers of probes of containers; attributes of volumes; data; who changed which field when. */
const leftOut = new Set([
  ...['env', 'envFrom', 'args', 'command', 'httpHeaders', 'volumeAttributes'],
  ...['data', 'binaryData', 'stringData', 'managedFields'],
]);
/** Annotations of ours and of CNIs decide; others may hold whole objects, as kubectl's last-applied-configuration. */
const annotationKept =
  /^(tandem\.dev|flannel\.alpha\.coreos\.com|k8s\.v1\.cni\.cncf\.io|projectcalico\.org)\//;

/** `json`: what `kubectl get -o json` prints. */
export function withoutSecrets(json: string): string {
  const reduced: unknown = JSON.parse(json, (key, value: unknown) => {
    // The value of a label, or of one that a selector asks for: `env` is a common name of labels.
    if (typeof value === 'string') return value;
    if (leftOut.has(key)) return undefined;
    return key === 'annotations' ? keptAnnotations(value) : value;
  });
  return `${JSON.stringify(reduced, null, 1)}\n`;
}

function keptAnnotations(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.fromEntries(Object.entries(value).filter(([key]) => annotationKept.test(key)));
}
