// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Pods on one bridge reach each other without netfilter, so unjudged, unless br_netfilter is on. */

import {
  type BridgeFamily,
  bridgeFamilies,
  unseenBridges,
} from '@tandem/agent/node/bridge-netfilter';
import {
  type Check,
  type CheckResult,
  type DoctorContext,
  fail,
  pass,
  skip,
  warn,
} from './check.ts';
import { readSysctl } from './system.ts';

export const checkBridges: Check = (context) => {
  const { endpoints, network } = context;
  const unread = network.problems.get('links');
  if (unread !== undefined) {
    return [warn('bridge-netfilter', `interfaces cannot be read: ${unread}`)];
  }
  const used = usedBridges(context);
  if (used.length === 0) {
    return [
      skip(
        'bridge-netfilter',
        endpoints === null ? 'no bridge with veth ports' : 'no endpoint is on a bridge',
      ),
    ];
  }
  return bridgeFamilies.map((family) => checkFamily(family, used));
};

type Bridge = Parameters<typeof unseenBridges>[1][number];

/** Bridges of endpoints; before there are any, those with a veth. */
function usedBridges({ endpoints, network: { state } }: DoctorContext): readonly Bridge[] {
  const links = [...state.links.values()];
  const ports = endpoints?.filter(({ l3Ifindex, vethIfindex }) => l3Ifindex !== vethIfindex);
  const masters =
    ports?.map(({ l3Ifindex }) => l3Ifindex) ??
    links.filter(({ kind }) => kind === 'veth').map(({ master }) => master);
  const used = new Set(masters);
  return links.filter(({ ifindex, kind }) => kind === 'bridge' && used.has(ifindex));
}

function checkFamily(family: BridgeFamily, used: readonly Bridge[]): CheckResult {
  const { sysctl, what } = family;
  const check = family.name === 'ipv4' ? 'bridge-nf-call-iptables' : 'bridge-nf-call-ip6tables';
  const value = readSysctl(sysctl);
  const unseen = unseenBridges(family, used, value);
  if (unseen.length === 0) {
    return pass(
      check,
      `${what} between pods of ${used.map(({ name }) => name).join(', ')} is filtered by policy`,
    );
  }
  const why = `${what} between pods on the bridge ${unseen.join(', ')} skips netfilter: policy is not enforced there, and other traffic of these pods is dropped`;
  if (value === null) {
    return fail(
      check,
      `${why} (br_netfilter is not loaded)`,
      `modprobe br_netfilter && sysctl -w ${sysctl}=1`,
    );
  }
  return fail(check, why, `sysctl -w ${sysctl}=1`);
}
