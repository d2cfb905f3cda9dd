// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Names and labels as the API server takes them.
 *
 * Source: k8s.io/apimachinery/pkg/util/validation (IsDNS1123Label, IsDNS1123Subdomain, IsQualifiedName, IsValidLabelValue).
 */
const labelMax = 63;
const subdomainMax = 253;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** As names of namespaces are. */
export function isDnsLabel(text: string): boolean {
  return text.length <= labelMax && label.test(text);
}

/** As names of most objects, and the domains of label keys, are. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= subdomainMax && text.split('.').every((part) => label.test(part));
}

export function isLabelValue(text: string): boolean {
  return labelValue.test(text);
}

/** `name` or `domain/name`. */
export function isLabelKey(text: string): boolean {
  const parts = text.split('/');
  const [domain, name] = parts.length === 1 ? [undefined, text] : parts;
  const isNamed = parts.length <= 2 && name !== undefined && name !== '' && isLabelValue(name);
  return isNamed && (domain === undefined || isDnsSubdomain(domain));
}
