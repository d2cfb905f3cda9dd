// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** kube-proxy in IPVS mode: answers of Services come to the judge with the ClusterIP, which no rule allows. */

import { ipvsEvidence, ipvsInterface } from '@tandem/agent/node/ipvs';
import { type Check, fail, pass } from './check.ts';
import { readJson } from './system.ts';

export const checkIpvs: Check = async () => {
  const link = await readJson('ip', ['-j', 'link', 'show', 'dev', ipvsInterface]);
  const evidence = ipvsEvidence(link.ok);
  if (evidence === null) return [pass('ipvs', 'Services do not go through IPVS')];
  return [
    fail(
      'ipvs',
      `Services go through IPVS (${evidence}): answers of Services to pods with egress rules are dropped`,
      'run kube-proxy with --proxy-mode=nftables or iptables, then ipvsadm --clear',
    ),
  ];
};
