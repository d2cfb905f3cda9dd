// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** kube-proxy in IPVS mode: answers of Services come to `judge` with the ClusterIP, which no rule allows. */

import { ipvsEvidence, ipvsInterface } from '@tandem/agent/node/ipvs';
import { type Check, fail, pass } from './check.ts';

export const checkIpvs: Check = ({ network: { state } }) => {
  const evidence = ipvsEvidence(state.linkByName(ipvsInterface) !== undefined);
  if (evidence === null) return [pass('ipvs', 'Services do not go through IPVS')];
  return [
    fail(
      'ipvs',
      `Services go through IPVS (${evidence}): answers of Services to pods with egress rules are dropped`,
      'run kube-proxy with --proxy-mode=nftables or iptables, then ipvsadm --clear',
    ),
  ];
};
