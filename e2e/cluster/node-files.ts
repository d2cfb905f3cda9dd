// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Configuration files of a node's programs: containerd, kubelet, kube-proxy, the CNI plugins' list. */

import { copyFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { pauseImage } from './base-images.ts';
import {
  type ClusterConfig,
  clusterCidr,
  dnsServiceAddress,
  flannelBackend,
  ipv6,
  type Layout,
  nodeName,
  podCidr,
  worldDns,
} from './layout.ts';
import { binary } from './programs.ts';

const debianPlugins = '/usr/lib/cni';

/** Paths that a node has to itself, and the directory of the node that is mounted there. */
export const nodeVolumes: Readonly<Record<string, string>> = {
  '/var/lib/kubelet': 'var/kubelet',
  '/var/lib/containerd': 'var/containerd',
  '/var/lib/cni': 'var/cni',
  '/var/lib/tandem': 'var/tandem',
  '/var/log/pods': 'log/pods',
  '/var/log/containers': 'log/containers',
  '/etc/cni/net.d': 'etc/cni',
  '/opt/cni/bin': 'opt/cni',
};

/** Where a node's kubelet finds pods without an API server. */
export const staticPods = (layout: Layout, index: number): string =>
  join(layout.node(index), 'etc/manifests');

export function writeNodeFiles(layout: Layout, config: ClusterConfig, index: number): void {
  const directory = layout.node(index);
  const etc = join(directory, 'etc');
  mkdirSync(join(etc, 'cni'), { recursive: true });
  mkdirSync(staticPods(layout, index));
  const volumes = Object.entries(nodeVolumes).map(([path, name]) => `${path} ${name}\n`);
  writeFileSync(join(directory, 'volumes.list'), volumes.join(''));
  // a copy: what installs a plugin on one node does not install it on the others
  cpSync(debianPlugins, join(directory, 'opt/cni'), { recursive: true });
  if (flannelBackend(config.cni) !== null) writeFlannel(directory, config);
  writeFileSync(join(etc, 'cni/10-net.conflist'), JSON.stringify(conflist(config, index), null, 2));
  writeFileSync(join(etc, 'containerd.toml'), containerdToml);
  // the outside's resolver: what CoreDNS forwards to
  writeFileSync(join(etc, 'resolv.conf'), `nameserver ${worldDns}\n`);
  writeFileSync(join(etc, 'kubelet.yaml'), stringify(kubeletConfig(layout, config, index)));
  writeFileSync(join(etc, 'kube-proxy.yaml'), stringify(proxyConfig(layout, config, index)));
}

function writeFlannel(directory: string, { cni }: ClusterConfig): void {
  copyFileSync(binary('flannel-cni', 'flannel'), join(directory, 'opt/cni/flannel'));
  const network = { Network: clusterCidr, Backend: { Type: flannelBackend(cni) } };
  writeFileSync(join(directory, 'etc/flannel.json'), JSON.stringify(network));
}

function conflist({ cni, isDualStack }: ClusterConfig, index: number): unknown {
  const portmap = { type: 'portmap', capabilities: { portMappings: true } };
  if (cni === 'flannel' || cni === 'flannel-host-gw') {
    // as flannel's own manifest has it
    const delegate = { hairpinMode: true, isDefaultGateway: true };
    return { cniVersion: '0.3.1', name: 'cbr0', plugins: [{ type: 'flannel', delegate }, portmap] };
  }
  const ipam = {
    type: 'host-local',
    ranges: [
      [{ subnet: podCidr(index) }],
      ...(isDualStack ? [[{ subnet: ipv6.podCidr(index) }]] : []),
    ],
    routes: [{ dst: '0.0.0.0/0' }, ...(isDualStack ? [{ dst: '::/0' }] : [])],
  };
  const main = {
    bridge: { type: 'bridge', bridge: 'cni0', isGateway: true, hairpinMode: true, ipMasq: false },
    ptp: { type: 'ptp', ipMasq: false },
  }[cni];
  return { cniVersion: '1.0.0', name: 'net', plugins: [{ ...main, ipam }, portmap] };
}

/** Version 2 is read by containerd 1.6 and 1.7. Without CAP_SYS_RESOURCE no oom_score_adj can be lowered. */
const containerdToml = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`;

function kubeletConfig(layout: Layout, { isDualStack }: ClusterConfig, index: number): unknown {
  const pki = (file: string): string => join(layout.pki, file);
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    cgroupDriver: 'cgroupfs',
    failCgroupV1: false,
    failSwapOn: false,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: pki('ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: pki(`${nodeName(index)}.crt`),
    tlsPrivateKeyFile: pki(`${nodeName(index)}.key`),
    clusterDNS: [dnsServiceAddress, ...(isDualStack ? [ipv6.dnsServiceAddress] : [])],
    clusterDomain: 'cluster.local',
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    resolvConf: join(layout.node(index), 'etc/resolv.conf'),
    // its default is below /usr, which the node shares with the machine
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    nodeStatusUpdateFrequency: '4s',
    staticPodPath: staticPods(layout, index),
    maxPods: 300,
    evictionHard: {
      'memory.available': '100Mi',
      'nodefs.available': '1%',
      'imagefs.available': '1%',
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    serializeImagePulls: false,
  };
}

function proxyConfig(
  layout: Layout,
  { proxyMode, isDualStack }: ClusterConfig,
  index: number,
): unknown {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    clientConnection: { kubeconfig: join(layout.pki, 'kube-proxy.conf') },
    clusterCIDR: isDualStack ? `${clusterCidr},${ipv6.clusterCidr}` : clusterCidr,
    hostnameOverride: nodeName(index),
    mode: proxyMode,
    // nf_conntrack_max can be written in the machine's own namespace alone
    conntrack: { maxPerCore: 0, min: 0 },
  };
}
