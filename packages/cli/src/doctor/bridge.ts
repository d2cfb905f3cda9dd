// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Pods on one bridge reach each other without netfilter, so unjudged, unless br_netfilter is on. */

import { type Check, type CheckResult, fail, pass, skip, warn } from './check.ts';
import { readJson, readSysctl } from './system.ts';

interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: Readonly<Record<string, unknown>>;
  };
}

const families = [
  { sysctl: 'net.bridge.bridge-nf-call-iptables', own: 'nf_call_iptables', what: 'IPv4' },
  { sysctl: 'net.bridge.bridge-nf-call-ip6tables', own: 'nf_call_ip6tables', what: 'IPv6' },
] as const;

export const checkBridges: Check = async ({ endpoints }) => {
  const links = await readJson<readonly Link[]>('ip', ['-j', '-d', 'link', 'show']);
  if (!links.ok) return [warn('bridge-netfilter', links.error)];
  const bridges = links.value.filter(({ linkinfo }) => linkinfo?.info_kind === 'bridge');
  const used = bridges.filter((bridge) =>
    endpoints === null
      ? links.value.some(
          ({ master, linkinfo }) => master === bridge.ifname && linkinfo?.info_kind === 'veth',
        )
      : endpoints.some(
          ({ l3Ifindex, vethIfindex }) => l3Ifindex === bridge.ifindex && vethIfindex !== l3Ifindex,
        ),
  );
  if (used.length === 0) {
    return [
      skip(
        'bridge-netfilter',
        endpoints === null ? 'no bridge with veth ports' : 'no endpoint is on a bridge',
      ),
    ];
  }
  return families.map((family) => checkFamily(family, used));
};

function checkFamily(
  { sysctl, own, what }: (typeof families)[number],
  used: readonly Link[],
): CheckResult {
  const check = sysctl.slice('net.bridge.'.length);
  const value = readSysctl(sysctl);
  const unjudged = used
    .filter(({ linkinfo }) => value !== '1' && linkinfo?.info_data?.[own] !== 1)
    .map(({ ifname }) => ifname);
  if (unjudged.length === 0) {
    return pass(
      check,
      `${what} between pods of ${used.map(({ ifname }) => ifname).join(', ')} is judged`,
    );
  }
  const why = `${what} between pods on the bridge ${unjudged.join(', ')} skips netfilter: policy does not hold there, and what these pods send elsewhere is dropped`;
  if (value === null) {
    return fail(
      check,
      `${why} (br_netfilter is not loaded)`,
      `modprobe br_netfilter && sysctl -w ${sysctl}=1`,
    );
  }
  return fail(check, why, `sysctl -w ${sysctl}=1`);
}
