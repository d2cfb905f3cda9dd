// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Names as the API server takes them.
 *
 * Source: k8s.io/apimachinery/pkg/util/validation (IsDNS1123Label, IsDNS1123Subdomain).
 */
const labelMax = 63;
const subdomainMax = 253;
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** As names of namespaces are. */
export function isDnsLabel(text: string): boolean {
  return text.length <= labelMax && label.test(text);
}

/** As names of most objects, and the domains of label keys, are. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= subdomainMax && text.split('.').every((part) => label.test(part));
}
