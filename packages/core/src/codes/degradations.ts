// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Degradations: `degraded` of `tandem status`, and the label `code` of `tandem_degraded`. */

import type { CodeTable } from './code.ts';

const degradationRows = {
  'no-member-serves': {
    severity: 'critical',
    meaning:
      'no process answers DNS on the shared socket: pods with DNS rules get no answers; policy in the kernel stays enforced',
    fix: 'start the agent or the DNS proxy: either alone answers. Their logs have the reason for which they ended',
  },
  'agent-away': {
    severity: 'warning',
    meaning:
      'the agent does not run, or hangs: the DNS proxy answers and learns new addresses alone; policy and endpoints do not change',
    fix: 'start the agent, or read its log',
  },
  'proxy-away': {
    severity: 'warning',
    meaning: 'the DNS proxy does not run, or hangs: the agent answers DNS alone',
    fix: 'start the DNS proxy, or read its log',
  },
  'member-stale': {
    severity: 'warning',
    meaning:
      'a member runs, but its last heartbeat is more than 100 ms old: the kernel gives it no queries, and the other member answers alone',
    fix: 'if it lasts, check the CPU quota and the load of the process, and whether it is stopped by a signal',
  },
  'agent-waiting': {
    severity: 'info',
    meaning:
      'a second agent stands by until the first one ends: it loads, attaches and writes nothing before',
    fix: 'none during an upgrade; else stop one of them. The second agent kills a first one that hangs within seconds, unless the log of the first one says why it cannot',
  },
  'proxy-waiting': {
    severity: 'info',
    meaning: 'a second DNS proxy stands by until the first one ends: it joins the group after that',
    fix: 'none during an upgrade; else stop one of them. The second DNS proxy kills a first one that hangs within seconds, unless the log of the first one says why it cannot',
  },
  'listeners-closed': {
    severity: 'error',
    meaning: 'this process cannot open port P and serves no DNS; policy stays enforced',
    fix: 'stop the process that has port P (`ss -lnptu` lists it); this process tries again every second',
  },
  'settings-differ': {
    severity: 'error',
    meaning:
      'port, mark or proxyUid of this process differ from those of the loaded programs: the process serves no DNS, because its sockets would lose queries',
    fix: 'give both processes the same port, mark and proxyUid (mark: auto takes the bit of the agent), and restart the agent first, then the DNS proxy',
  },
  'foreign-socket': {
    severity: 'critical',
    meaning:
      'a socket that belongs to no member is bound to port P, and may receive DNS queries of pods',
    fix: 'find its process with `ss -lnptu` and stop it; run no other program as the uid of the DNS proxy',
  },
  'steering-unanswered': {
    severity: 'critical',
    meaning:
      'DNS queries of pods are steered to the shared socket and none is answered: the node drops the queries or the replies',
    fix: 'run `tandem doctor`, which reads the firewall; then look for routing rules with a lower preference than those of Tandem (ip rule, ip -6 rule) and for a rule that drops OUTPUT (nft list ruleset)',
  },
  'network-rules': {
    severity: 'critical',
    meaning:
      "a routing rule, a route or the nft table of Tandem cannot be made: DNS of that address family is dropped, or fills the node's conntrack table",
    fix: 'fix the error that the message quotes; the agent tries again every few seconds',
  },
  'arp-unguarded': {
    severity: 'warning',
    meaning:
      "nft cannot keep ARP of unknown pods behind bridges from the node, so such a pod can make entries in the node's neighbour table; tables of a former start that tests another bit of the mark drop ARP of all pods behind bridges",
    fix: 'run a kernel with CONFIG_NF_TABLES_ARP and CONFIG_NF_TABLES_NETDEV, or fix the error that the message quotes; the agent tries again every few seconds. If pods behind bridges are cut off: nft delete table arp tandem',
  },
  'ipv6-loopback-off': {
    severity: 'error',
    meaning:
      'IPv6 is disabled on the interface lo and enabled on others: DNS over IPv6 cannot be delivered to the shared socket',
    fix: 'sysctl -w net.ipv6.conf.lo.disable_ipv6=0, or disable IPv6 on all interfaces (net.ipv6.conf.all and default)',
  },
  'mark-taken': {
    severity: 'error',
    meaning:
      'a firewall or routing rule of other software uses the mark bit that steers DNS of pods: DNS queries may be dropped or misrouted; verification of source addresses does not use the mark',
    fix: 'remove the bit from that rule, or set mark to auto and restart the agent, then the DNS proxy',
  },
  'port-unguarded': {
    severity: 'warning',
    meaning:
      'the guard of port P is not attached: other processes of the node can bind port P before a member does',
    fix: 'mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2: the agent finds it within seconds; or set cgroupPath, empty for no guard',
  },
  'judge-not-attached': {
    severity: 'critical',
    meaning:
      'the policy program (judge) is missing from at least one netfilter hook: connections through that hook are not filtered',
    fix: 'restart the agent, which attaches it again; `tandem doctor` names the missing link. Find out which program detached it',
  },
  'not-enforcing-yet': {
    severity: 'critical',
    meaning: 'the agent has applied no policy since the node was booted: nothing is enforced yet',
    fix: 'wait for the first policy; if it lasts, the other degradations and the log of the agent say why the source cannot be read',
  },
  'judge-bypassed': {
    severity: 'critical',
    meaning:
      'interfaces of pods count packets that the policy program does not see: another datapath delivers them past netfilter (Calico eBPF, Cilium, Antrea, OVN-Kubernetes) and policy is NOT enforced on them',
    fix: 'switch the CNI to a datapath through netfilter (Calico: linuxDataplane Iptables or Nftables); `bpftool net` lists the programs on interfaces of pods',
  },
  'endpoint-chain': {
    severity: 'warning',
    meaning:
      'another tcx program runs before from_pod on interfaces of pods, or before guard_exit on trusted ports of their bridges: the source of packets that it redirects is not verified, and frames of unknown pods that it passes leave',
    fix: 'attach the other program after ours; `bpftool net show` lists both',
  },
  'bridge-netfilter-ipv4': {
    severity: 'critical',
    meaning:
      'netfilter does not see IPv4 on a bridge of pods: pods on that bridge reach each other without policy, and their other traffic is dropped',
    fix: 'modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1',
  },
  'bridge-netfilter-ipv6': {
    severity: 'critical',
    meaning:
      'netfilter does not see IPv6 on a bridge of pods: pods on that bridge reach each other without policy, and their other traffic is dropped',
    fix: 'modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-ip6tables=1',
  },
  ipvs: {
    severity: 'critical',
    meaning:
      'kube-proxy runs in IPVS mode, which is not supported: replies of Services to pods with egress rules are dropped',
    fix: 'run kube-proxy with --proxy-mode=nftables or iptables; `ipvsadm --clear` removes the state of IPVS mode',
  },
  'pins-removed': {
    severity: 'critical',
    meaning:
      'the pins of the programs and maps were removed: the last policy stays enforced until the agent ends, DNS of pods with DNS rules is dropped, policy does not change',
    fix: 'restart the agent, then the DNS proxy; find out which program removes files in bpffsDir',
  },
  'pins-missing': {
    severity: 'warning',
    meaning:
      'pins of maps or programs are missing and cannot be restored: an object without a pin ends with the agent',
    fix: 'give the agent a writable bpffs and memory; it tries again every few seconds. Find out which program removes files in bpffsDir',
  },
  'pins-not-shared': {
    severity: 'error',
    meaning: 'the DNS proxy cannot open the pinned maps and programs',
    fix: 'give the agent CAP_CHOWN and a writable bpffs; it tries again every few seconds',
  },
  'old-pins': {
    severity: 'info',
    meaning: 'pins of a former version could not be removed: they use memory and nothing else',
    fix: 'none; the agent tries again every few seconds',
  },
  'no-policy': {
    severity: 'error',
    meaning: 'this process has no policy yet and does not serve',
    fix: 'start the agent, and read its diagnostics and log: there is no usable policy snapshot',
  },
  'snapshot-only': {
    severity: 'warning',
    meaning: 'this process serves the policy of the last snapshot: it lacks later changes',
    fix: 'start the agent, or wait until it has read its source; its log says what keeps it from reading',
  },
  'snapshot-unusable': {
    severity: 'warning',
    meaning: 'no saved policy snapshot could be used when this process started',
    fix: 'none once the agent reads its source: it writes a new snapshot',
  },
  'snapshot-not-written': {
    severity: 'warning',
    meaning:
      'the policy in force cannot be written to disk: a process that restarts begins with the copy in the run directory, and after a boot of the node with an older policy',
    fix: 'free space on the disk, or make stateDir writable; the agent tries again every few seconds',
  },
  'policy-behind': {
    severity: 'warning',
    meaning:
      'this process serves an older policy revision than the node requires: the kernel gives queries to the other process',
    fix: 'wait; if it lasts, the log of this process says why it refuses the policy',
  },
  'policy-not-applied': {
    severity: 'error',
    meaning: 'the datapath enforces an older policy revision than the agent has computed',
    fix: 'if it lasts for more than seconds, check that the agent runs, and read `apply-failed` in status and its log',
  },
  'not-reconciled': {
    severity: 'error',
    meaning:
      'a step of the reconciliation, which runs every 5 seconds, fails: the former state stays in force',
    fix: 'fix the error that the message quotes; the agent tries again every few seconds',
  },
  'network-unreadable': {
    severity: 'error',
    meaning:
      'links, addresses, routes, rules or neighbours of the node cannot be read by netlink: the agent goes on with the last reading',
    fix: 'fix the error that the message quotes; the agent tries again at once',
  },
  'source-unreachable': {
    severity: 'error',
    meaning:
      'the source of policy cannot be read: policy and endpoints stay as they are, pods that start are held',
    fix: 'fix the cause that the message names (route, certificate, RBAC, permissions of a directory); the agent tries again by itself',
  },
  'kernel-values-unreadable': {
    severity: 'warning',
    meaning:
      'a map of the kernel that status shows cannot be read: enforcement does not depend on it, and status shows the rest',
    fix: 'fix the error that the message quotes, a missing pin or capability; status reads it again by itself',
  },
  diagnostics: {
    severity: 'error',
    meaning:
      'objects, pods or interfaces have errors: each diagnostic names the object and the policy that is enforced meanwhile',
    fix: 'fix the objects in the list of diagnostics; `tandem explain CODE` explains each code',
  },
  'redirect-failed': {
    severity: 'error',
    meaning:
      'nft or conntrack refused the redirects of CiliumLocalRedirectPolicies: the former redirects stay in force',
    fix: 'fix the error that the message quotes; the agent tries again every few seconds',
  },
  'gate-missing': {
    severity: 'critical',
    meaning:
      'the CNI gate is not in the chain: pods of this node start before their policy is enforced, and their traffic is dropped until then',
    fix: 'fix the cause that the message names; cniConfDir (gate.confDir of the chart) must be the directory from which the container runtime reads CNI configurations, and no other file may come before 00-tandem.conflist by name',
  },
  'gate-stale': {
    severity: 'warning',
    meaning:
      'the CNI gate holds pods, but its program or its copy of the network configuration is out of date',
    fix: 'fix or make writable the file that the message names; the agent tries again every few seconds',
  },
  'gate-closed': {
    severity: 'critical',
    meaning: 'the agent cannot open the socket of the CNI gate: no pod of this node starts',
    fix: 'make runDir a writable directory of root; the agent tries again every few seconds',
  },
  'gate-left': {
    severity: 'critical',
    meaning:
      'the CNI gate is disabled, and its configuration could not be removed from the chain: pods that the container runtime starts by that chain do not start',
    fix: 'remove 00-tandem.conflist from the directory that the message names',
  },
  'exchange-down': {
    severity: 'warning',
    meaning:
      'the two processes are not connected: each lacks names and events of the other in its lists; both write learned addresses to the datapath',
    fix: "check that both have the same runDir and that the agent's sync socket is in it",
  },
  'sync-unavailable': {
    severity: 'error',
    meaning: 'the agent cannot open its sync socket: the DNS proxy gets no new policy',
    fix: 'remove the cause that the message names; the agent tries again every few seconds',
  },
  'run-directory': {
    severity: 'warning',
    meaning:
      'the directory of the sockets (runDir) cannot be made: policy is enforced and DNS served, but the processes cannot connect to each other',
    fix: 'make runDir a writable directory; the agent tries again every few seconds',
  },
  'admin-unavailable': {
    severity: 'warning',
    meaning:
      'this process cannot open its admin socket: `tandem` cannot ask it; DNS and policy are not affected',
    fix: 'remove the cause that the message names; the process tries again by itself',
  },
  'metrics-unavailable': {
    severity: 'warning',
    meaning:
      'this process cannot open metricsAddress: it has no /metrics; DNS and policy are not affected',
    fix: 'remove the cause that the message names; the process tries again by itself',
  },
  'admin-unreachable': {
    severity: 'warning',
    meaning: 'a member serves DNS, and its admin socket does not answer `tandem`',
    fix: 'run `tandem` as root with the runDir of the process; restart the process if it hangs; `tandem doctor` checks the directory',
  },
  'group-unreadable': {
    severity: 'warning',
    meaning: '`tandem` cannot read the pinned map group: nothing is pinned, or it lacks permission',
    fix: 'run `tandem` as root on the node, with the bpffsDir of the agent; `tandem doctor` checks the rest',
  },
  'map-nearly-full': {
    severity: 'warning',
    meaning:
      'a BPF map is more than 90 % full: entries that find no room will be refused, and their traffic denied',
    fix: 'see "When something is full" in docs/operations.md',
  },
  'drop-events-unread': {
    severity: 'warning',
    meaning:
      'this process cannot read the ring of drop events; packets are dropped and counted nevertheless',
    fix: 'restart the agent, which pins missing maps and grants access to them',
  },
  'log-lost': {
    severity: 'warning',
    meaning:
      'lines of the log of this process cannot be written and are lost; policy and DNS are not affected',
    fix: 'free space where its standard error is written; after EPIPE restart the process, because the reader of its standard error has ended',
  },
} as const;

export type DegradationCode = keyof typeof degradationRows;
export const degradationCodes: CodeTable<DegradationCode> = degradationRows;
