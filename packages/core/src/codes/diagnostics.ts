// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Diagnostics: problems of objects, pods and interfaces, in `tandem status` and `tandem policy validate`. */

import type { CodeTable } from './code.ts';

const diagnosticRows = {
  yaml: {
    severity: 'error',
    meaning: '`tandem policy validate` cannot read the file as YAML or JSON',
    fix: 'correct the text at the line that the message names',
  },
  'file-unreadable': {
    severity: 'error',
    meaning:
      'the agent cannot read a file of the source directory: the last good content of that file stays in force; of a file that was never read, only policies that can be read in part deny their pods, and other pods are open',
    fix: 'correct the file, or make it readable; the agent reads it again when it changes',
  },
  'object-invalid': {
    severity: 'error',
    meaning:
      'an object has a field that is missing, of the wrong type or out of range: the agent uses its last valid version, or denies the pods that it may concern',
    fix: 'correct the field that the message names',
  },
  'policy-invalid': {
    severity: 'error',
    meaning:
      'a policy is not valid: its last valid version stays in force, or else the pods that it selects are denied in the directions that it names',
    fix: 'correct the field that the message names; docs/policy.md lists what is supported',
  },
  'policy-warning': {
    severity: 'warning',
    meaning: 'a policy is valid and contains something that has no effect or is probably a mistake',
    fix: 'change or remove the field that the message names',
  },
  'policy-hint': {
    severity: 'warning',
    meaning:
      'a policy is valid and probably means something else than its author intended; `tandem policy validate` alone reports this',
    fix: 'follow the message, unless the policy is intended so',
  },
  'policy-left-out': {
    severity: 'error',
    meaning:
      'a valid policy needs more entries than the node has room for: the pods that it selects are denied in the directions that it names',
    fix: 'use fewer or wider rules: peers, CIDRs and ports multiply',
  },
  'kind-unsupported': {
    severity: 'error',
    meaning: 'an object is of a kind that this version does not enforce',
    fix: 'write the policy as the kind that the message names, or remove it',
  },
  duplicate: {
    severity: 'error',
    meaning:
      'several objects have one kind, namespace and name: with different contents none of them is enforced, and the pods that any of them selects are denied',
    fix: 'remove all but one, or give them different names',
  },
  limit: {
    severity: 'error',
    meaning:
      'the node has no room for a pod, or for the policy as a whole: the pod is dropped, or the last policy that fits stays in force',
    fix: 'run fewer pods on the node, or use fewer and wider rules; docs/reference/limits.md lists the limits',
  },
  'entries-refused': {
    severity: 'error',
    meaning:
      'the kernel refuses entries of a map: the pods that need them are denied until it takes them',
    fix: 'free memory on the node or raise the memory limit of the agent; the agent tries again every few seconds',
  },
  'apply-failed': {
    severity: 'error',
    meaning:
      'a policy revision could not be written to the datapath: the former revision stays in force',
    fix: 'fix the error that the message quotes; the agent tries again',
  },
  'diagnostics-left-out': {
    severity: 'error',
    meaning: 'status has more diagnostics than one answer holds',
    fix: 'fix the listed ones first; the log of the agent has all of them',
  },
  'fqdn-without-dns': {
    severity: 'warning',
    meaning:
      'toFQDNs selects pods whose DNS no rule with rules.dns covers: Tandem sees no answers of theirs and learns no address',
    fix: 'add an egress rule with rules.dns for the DNS servers',
  },
  'pattern-rejected': {
    severity: 'error',
    meaning: 'a DNS pattern exceeds a limit of the pattern matcher: it matches nothing',
    fix: 'shorten or split the pattern; docs/reference/limits.md lists the limits',
  },
  'dns-rule-without-server': {
    severity: 'warning',
    meaning: 'a rule with rules.dns selects no DNS server, so it allows no query',
    fix: 'select the pods of the DNS server by their labels and namespace, with the port of the pods',
  },
  'dns-backend-port': {
    severity: 'warning',
    meaning:
      'a rule with rules.dns names another port than the pods behind the DNS Service listen on: queries to the Service are not filtered by name, or are dropped',
    fix: 'write the port of the pods (targetPort of the Service), not that of the Service',
  },
  'dns-frontend-port': {
    severity: 'warning',
    meaning:
      'a Service has another port than 53 that leads to DNS servers with DNS rules: queries to that port are dropped, because only port 53 is steered',
    fix: 'give the Service port 53',
  },
  'dns-ingress-nodes': {
    severity: 'warning',
    meaning:
      "the ingress policy of a DNS server does not admit other nodes: queries of pods with DNS rules come from the address of the pods' node, and are dropped on the server's node",
    fix: 'admit the nodes to the port of the server: fromEntities: [remote-node], or an ipBlock with their addresses',
  },
  'dns-servers-not-listed': {
    severity: 'error',
    meaning:
      'DNS rules have more servers than can be listed one by one, or more names for their servers: queries to these servers are dropped',
    fix: 'name each server, by its address in toCIDR or by its pods in toEndpoints',
  },
  'dns-deny-too-wide': {
    severity: 'error',
    meaning:
      'a deny rule covers more DNS servers than can be listed one by one, beside a DNS rule for every peer: that DNS rule is not in force, and queries to servers without rules of their own are dropped',
    fix: 'deny fewer addresses, or name the DNS servers',
  },
  'dns-redirect-unnamed': {
    severity: 'warning',
    meaning:
      'a DNS rule names the pods of a Service, and a CiliumLocalRedirectPolicy redirects its queries to other pods: Cilium would drop the queries',
    fix: 'add the pods of the redirect to toEndpoints if the policy also has to work with Cilium',
  },
  'redirect-limit': {
    severity: 'error',
    meaning:
      'the node has no room for a CiliumLocalRedirectPolicy, or for all of its frontends and backends: traffic without room is not redirected',
    fix: 'remove redirect policies, or let them select fewer pods; docs/node-local-dns.md lists the limits',
  },
  'redirect-conflict': {
    severity: 'error',
    meaning:
      'two CiliumLocalRedirectPolicies redirect the same address and port: the older one applies',
    fix: 'remove one of them',
  },
  'redirect-refused': {
    severity: 'error',
    meaning:
      'a CiliumLocalRedirectPolicy names an address or a Service that it may not redirect: it redirects nothing',
    fix: 'correct its frontend, or allow its namespace by redirectNamespaces',
  },
  'redirect-port': {
    severity: 'error',
    meaning:
      'a port of a CiliumLocalRedirectPolicy has no counterpart in the Service or in its backend: that port is not redirected',
    fix: 'correct the port, its protocol or its name',
  },
  'redirect-backend-judged': {
    severity: 'warning',
    meaning:
      'a backend of a DNS redirect is itself under a policy with DNS rules: queries of pods under such policies are not redirected, because they would return to the backend',
    fix: 'select the backend by no policy with rules.dns',
  },
  'redirect-backend-host': {
    severity: 'warning',
    meaning:
      'a CiliumLocalRedirectPolicy selects on this node only pods with hostNetwork, which are no backends: nothing is redirected here',
    fix: 'remove hostNetwork from the pods, or use nodeLocalDns (docs/node-local-dns.md)',
  },
  'pod-unreadable': {
    severity: 'error',
    meaning: 'a pod object cannot be read whole and a policy may select it: its traffic is dropped',
    fix: 'correct the pod object',
  },
  'namespace-unknown': {
    severity: 'error',
    meaning:
      'the Namespace object of a pod is missing and a policy selects by labels of namespaces: traffic of the pod is dropped',
    fix: 'add the Namespace object to the source',
  },
  'node-unknown': {
    severity: 'error',
    meaning:
      'the source has no Node with the name in nodeName and no pod on it: traffic of all pods of this node is dropped',
    fix: "set nodeName to the name of this node's Node object",
  },
  'pod-address': {
    severity: 'error',
    meaning:
      'a pod has the address of a node or of another pod: the address is no endpoint, or its traffic is dropped',
    fix: 'correct the address in the pod object; with a CNI, delete the pod that should not have it',
  },
  'interface-not-found': {
    severity: 'error',
    meaning: 'the agent finds no interface of a pod: traffic of the pod is dropped',
    fix: 'with a directory as source set the annotation tandem.dev/interface to the host side of the veth; on Kubernetes delete the pod, so that its successor passes the CNI gate',
  },
  'interface-refused': {
    severity: 'error',
    meaning:
      'the interface that is named or routed for a pod cannot belong to it (not a veth, the uplink, or the interface of another pod): traffic of the pod is dropped',
    fix: 'correct the annotation tandem.dev/interface, or delete the pod so that its successor passes the CNI gate',
  },
  'interface-unknown': {
    severity: 'warning',
    meaning:
      'an interface leads into another network namespace or to a bridge of pods and belongs to no known pod: all its traffic is dropped',
    fix: 'add its Pod object; name it in trustedInterfaces if it belongs to no pod, which exempts it from policy',
  },
  'interfaces-unreadable': {
    severity: 'error',
    meaning:
      'links or routes of the node cannot be read: known pods keep their interfaces, traffic of other pods is dropped',
    fix: 'fix the error that the message quotes; the agent tries again by itself',
  },
  'attach-failed': {
    severity: 'error',
    meaning:
      'from_pod or to_pod could not be attached to the interface of a pod: traffic of the pod is dropped',
    fix: 'fix the error that the message quotes; the agent tries again, at first after 100 ms and at last every 5 s',
  },
  'bridge-entry-failed': {
    severity: 'warning',
    meaning:
      'the permanent forwarding or neighbour entry of a pod behind a bridge could not be made: the bridge learns the entry from frames instead',
    fix: 'fix the error that the message quotes; the agent tries again',
  },
  'exit-unguarded': {
    severity: 'warning',
    meaning:
      "guard_exit could not be attached to a port of a bridge of pods that is no pod's: ARP and tagged frames of a pod that the agent does not know leave there",
    fix: 'fix the error that the message quotes; the agent tries again',
  },
  'device-not-classified': {
    severity: 'warning',
    meaning:
      'an interface could not be written to the maps of trusted interfaces, bridges of pods or tunnel ports: its traffic may be dropped',
    fix: 'fix the error that the message quotes; the agent tries again',
  },
} as const;

export type DiagnosticCode = keyof typeof diagnosticRows;
export const diagnosticCodes: CodeTable<DiagnosticCode> = diagnosticRows;
