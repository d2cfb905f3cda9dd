// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Checks of `tandem doctor`. The severity is that of a check that does not pass; the meaning is what does not hold then. */

import type { CodeTable } from '@tandem/core/codes/code';

const checkRows = {
  kernel: {
    severity: 'info',
    meaning: 'the version of the running kernel; what it can do is tried by the checks kernel-*',
    fix: 'none',
  },
  'kernel-btf': {
    severity: 'error',
    meaning: 'the kernel has no BTF, so the programs cannot be loaded',
    fix: 'boot a kernel of 6.6 or newer with CONFIG_DEBUG_INFO_BTF',
  },
  'kernel-ringbuf': {
    severity: 'error',
    meaning: 'the kernel has no BPF ring buffers, which carry drop events',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-array-mmap': {
    severity: 'error',
    meaning: 'the kernel cannot map BPF arrays into memory, which members share state by',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-lpm-trie-batch': {
    severity: 'warning',
    meaning: 'the kernel writes LPM tries entry by entry only: large policies take longer to apply',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-reuseport-sockarray': {
    severity: 'error',
    meaning:
      'the kernel has no BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, so two members cannot share port P',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-sk-reuseport': {
    severity: 'error',
    meaning: 'the kernel has no sk_reuseport programs, so two members cannot share port P',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-syscall-program': {
    severity: 'error',
    meaning: 'the kernel has no BPF syscall programs, by which members write learned addresses',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-tcx-link': {
    severity: 'error',
    meaning: 'the kernel has no tcx links, which attach programs to interfaces of pods',
    fix: 'boot a kernel of 6.6 or newer with CONFIG_NET_XGRESS',
  },
  'kernel-netfilter-link': {
    severity: 'error',
    meaning: 'the kernel has no BPF netfilter links, which attach the policy program',
    fix: 'boot a kernel of 6.6 or newer with CONFIG_NETFILTER_BPF_LINK',
  },
  'kernel-netfilter-defrag': {
    severity: 'warning',
    meaning:
      'BPF netfilter links cannot ask for reassembly: fragments that nothing else reassembles are dropped',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-devmap-lookup': {
    severity: 'error',
    meaning: 'programs cannot look up DEVMAP_HASH maps',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-kernel-functions': {
    severity: 'error',
    meaning: 'the kernel lacks kfuncs that the programs call',
    fix: 'boot a kernel of 6.6 or newer',
  },
  'kernel-cgroup-bind': {
    severity: 'warning',
    meaning:
      'the kernel has no cgroup bind programs, so port P has no guard against other processes',
    fix: 'boot a kernel of 6.6 or newer with CONFIG_CGROUP_BPF',
  },
  capabilities: {
    severity: 'error',
    meaning: '`tandem doctor` lacks capabilities, so other checks may fail for that alone',
    fix: 'run it as root, outside of a container that forbids bpf(2)',
  },
  'open-files': {
    severity: 'warning',
    meaning: 'the limit of open files is low: with many pods and TCP queries sockets may run out',
    fix: 'raise LimitNOFILE of the services to 65536',
  },
  'program-nft': {
    severity: 'error',
    meaning: 'the program nft is missing, and the agent needs it for its table',
    fix: 'install nftables',
  },
  bpffs: {
    severity: 'error',
    meaning: 'bpffsDir lies in no bpffs: nothing can be pinned there',
    fix: 'mount a bpffs there: mount -t bpf bpf /sys/fs/bpf',
  },
  cgroup2: {
    severity: 'warning',
    meaning:
      'the agent finds no cgroup v2 of the node, so port P has no guard against other processes',
    fix: 'mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2, or set cgroupPath',
  },
  'run-directory': {
    severity: 'error',
    meaning:
      'runDir cannot be written to: the processes have no sockets and cannot connect to each other',
    fix: 'make runDir a writable directory of root',
  },
  'state-directory': {
    severity: 'error',
    meaning: 'stateDir cannot be written to: no policy is kept for a process that starts alone',
    fix: 'make stateDir a writable directory of root',
  },
  'address-families': {
    severity: 'error',
    meaning:
      'IPv6 is enabled and disabled on lo alone, so DNS over IPv6 cannot be delivered; or IPv6 is off everywhere, which is a note',
    fix: 'sysctl -w net.ipv6.conf.lo.disable_ipv6=0',
  },
  pins: {
    severity: 'error',
    meaning: 'maps or programs of Tandem are not pinned in bpffsDir',
    fix: 'start the agent, or restart it and then the DNS proxy; before it is installed use --preflight',
  },
  'pin-versions': {
    severity: 'info',
    meaning: 'pins of another ABI version exist: an upgrade or rollback is under way or was left',
    fix: 'none',
  },
  'judge-slot': {
    severity: 'error',
    meaning: 'the slot of the policy program is empty: traffic of pods is dropped',
    fix: 'restart the agent',
  },
  'guard-entry-slot': {
    severity: 'error',
    meaning: 'the slot of the program at PRE_ROUTING is empty: traffic of pods is dropped',
    fix: 'restart the agent',
  },
  'link-guard-entry-ipv4': {
    severity: 'error',
    meaning: 'no program checks IPv4 before conntrack (PRE_ROUTING)',
    fix: 'restart the agent',
  },
  'link-guard-entry-ipv6': {
    severity: 'error',
    meaning: 'no program checks IPv6 before conntrack (PRE_ROUTING)',
    fix: 'restart the agent',
  },
  'link-judge-post-routing-ipv4': {
    severity: 'error',
    meaning:
      'the policy program is not at POST_ROUTING of IPv4: forwarded connections are not filtered',
    fix: 'restart the agent',
  },
  'link-judge-post-routing-ipv6': {
    severity: 'error',
    meaning:
      'the policy program is not at POST_ROUTING of IPv6: forwarded connections are not filtered',
    fix: 'restart the agent',
  },
  'link-judge-local-in-ipv4': {
    severity: 'error',
    meaning:
      'the policy program is not at LOCAL_IN of IPv4: connections of pods to the node are not filtered',
    fix: 'restart the agent',
  },
  'link-judge-local-in-ipv6': {
    severity: 'error',
    meaning:
      'the policy program is not at LOCAL_IN of IPv6: connections of pods to the node are not filtered',
    fix: 'restart the agent',
  },
  'link-guard-port4': {
    severity: 'warning',
    meaning: 'the guard of port P is not attached for IPv4: other processes can bind the port',
    fix: 'restart the agent; it needs a cgroup v2',
  },
  'link-guard-port6': {
    severity: 'warning',
    meaning: 'the guard of port P is not attached for IPv6: other processes can bind the port',
    fix: 'restart the agent; it needs a cgroup v2',
  },
  'endpoint-links': {
    severity: 'error',
    meaning:
      'from_pod or to_pod is missing on an interface of an endpoint: its traffic is dropped or not filtered',
    fix: 'restart the agent',
  },
  'endpoint-chain': {
    severity: 'warning',
    meaning:
      'another tcx program runs before from_pod: the source of packets that it redirects is not verified',
    fix: 'attach the other program after from_pod; `bpftool net show` lists both',
  },
  members: {
    severity: 'error',
    meaning: 'not both processes serve DNS; with one it is a warning',
    fix: 'run `tandem status`, which names the other one and the fix',
  },
  'port-in-use': {
    severity: 'error',
    meaning: 'another process has port P, so DNS cannot be served on it',
    fix: 'stop that process, or give both processes another port',
  },
  'port-ephemeral': {
    severity: 'warning',
    meaning: 'port P lies in the ephemeral range: any connection of the node may take it',
    fix: 'reserve it: net.ipv4.ip_local_reserved_ports',
  },
  mark: {
    severity: 'error',
    meaning: 'the configured settings differ from those in force, or no bit of the mark is free',
    fix: 'give both processes and doctor the same port, mark and proxyUid; restart the agent first, then the DNS proxy',
  },
  'mark-firewall': {
    severity: 'error',
    meaning:
      'a firewall rule of other software uses the mark bit of Tandem: DNS of pods may be dropped or misrouted',
    fix: 'set mark to auto and restart the agent, or change the bits of the other software',
  },
  'mark-routing4': {
    severity: 'error',
    meaning: 'a routing rule of other software uses the mark bit of Tandem for IPv4',
    fix: 'set mark to auto and restart the agent, or change the bits of the other software',
  },
  'mark-routing6': {
    severity: 'error',
    meaning: 'a routing rule of other software uses the mark bit of Tandem for IPv6',
    fix: 'set mark to auto and restart the agent, or change the bits of the other software',
  },
  'rules-unchecked': {
    severity: 'info',
    meaning:
      'the nft table and routing rules of Tandem were not checked, because nothing is pinned',
    fix: 'none',
  },
  'nft-table': {
    severity: 'error',
    meaning:
      "the nft table inet tandem is missing or incomplete: steered DNS fills the node's conntrack table",
    fix: 'restart the agent; a running one restores it within seconds',
  },
  routing4: {
    severity: 'error',
    meaning:
      'routing rules or the route of Tandem are missing for IPv4, or rules of others come before them: steered DNS is not delivered',
    fix: 'restart the agent, which restores them within seconds; set rulePriority below that of the other rules',
  },
  routing6: {
    severity: 'error',
    meaning:
      'routing rules or the route of Tandem are missing for IPv6, or rules of others come before them: steered DNS is not delivered',
    fix: 'restart the agent, which restores them within seconds; set rulePriority below that of the other rules',
  },
  'bridge-netfilter': {
    severity: 'warning',
    meaning: 'bridges of pods could not be checked, or there are none',
    fix: 'none',
  },
  'bridge-nf-call-iptables': {
    severity: 'error',
    meaning: 'IPv4 on a bridge of pods skips netfilter: pods on it reach each other without policy',
    fix: 'modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1',
  },
  'bridge-nf-call-ip6tables': {
    severity: 'error',
    meaning: 'IPv6 on a bridge of pods skips netfilter: pods on it reach each other without policy',
    fix: 'modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-ip6tables=1',
  },
  ipvs: {
    severity: 'error',
    meaning:
      'kube-proxy runs in IPVS mode: replies of Services to pods with egress rules are dropped',
    fix: 'run kube-proxy with --proxy-mode=nftables or iptables, then ipvsadm --clear',
  },
  netkit: {
    severity: 'warning',
    meaning: 'pods behind netkit interfaces have no traffic: the programs attach to veth pairs',
    fix: 'configure the CNI to make veth pairs (Cilium: bpf.datapathMode=veth)',
  },
  conntrack4: {
    severity: 'error',
    meaning: 'no rule enables conntrack for IPv4: replies are filtered as new connections',
    fix: 'restart the agent, whose nft table enables it; modprobe nf_conntrack if it is missing',
  },
  conntrack6: {
    severity: 'error',
    meaning: 'no rule enables conntrack for IPv6: replies are filtered as new connections',
    fix: 'restart the agent, whose nft table enables it; modprobe nf_conntrack if it is missing',
  },
  'conntrack-fill': {
    severity: 'warning',
    meaning: 'the conntrack table is nearly full: new connections of the node will be dropped',
    fix: 'raise net.netfilter.nf_conntrack_max',
  },
  lanes: {
    severity: 'info',
    meaning: 'the kernel dropped datagrams or SYNs of pods that were over their rate',
    fix: '`tandem status` names the pods that ask much now; find what they look up',
  },
  'syn-cookies': {
    severity: 'warning',
    meaning:
      'SYN cookies are off: pods that open connections and finish no handshake can keep others from DNS over TCP',
    fix: 'sysctl -w net.ipv4.tcp_syncookies=1',
  },
  input4: {
    severity: 'error',
    meaning: 'the firewall of the node drops steered queries over IPv4: pods get no DNS answers',
    fix: 'accept the mark bit of Tandem in the chain that drops; doctor prints the command',
  },
  input6: {
    severity: 'error',
    meaning: 'the firewall of the node drops steered queries over IPv6: pods get no DNS answers',
    fix: 'accept the mark bit of Tandem in the chain that drops; doctor prints the command',
  },
  output4: {
    severity: 'error',
    meaning:
      'the firewall of the node drops replies to pods, or queries that Tandem sends to DNS servers, over IPv4: pods get no DNS answers',
    fix: 'accept what leaves from port P, and to port 53, in the chain that drops; doctor prints the command',
  },
  output6: {
    severity: 'error',
    meaning:
      'the firewall of the node drops replies to pods, or queries that Tandem sends to DNS servers, over IPv6: pods get no DNS answers',
    fix: 'accept what leaves from port P, and to port 53, in the chain that drops; doctor prints the command',
  },
  'rp-filter': {
    severity: 'info',
    meaning:
      'the setting of reverse path filtering; Tandem works with each, and other drops may come from it',
    fix: 'none',
  },
} as const;

/** `check` in the JSON of `tandem doctor`. */
export type CheckCode = keyof typeof checkRows;
export const checkCodes: CodeTable<CheckCode> = checkRows;
