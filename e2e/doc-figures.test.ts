// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Figures in the documentation are those of the code. Each row builds a piece of a sentence from the constants that it
 * speaks of, and the page must have it: who changes a limit changes the sentence.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as gate from '@tandem/agent/gate/limits';
import * as agent from '@tandem/agent/limits';
import * as controller from '@tandem/controller/limits';
import * as core from '@tandem/core/limits';
import {
  TD_EVENTS_PER_ENDPOINT,
  TD_EVENTS_PER_SECOND,
  TD_FQDN_LIVE_MAX,
  TD_FQDN_PAGES_MAX,
  TD_FQDN_SELECTORS_MAX,
  TD_HEARTBEAT_STALE_NS,
  TD_PLACES_MAX,
} from '@tandem/datapath/abi.gen';
import { judgeHooks } from '@tandem/datapath/paths';
import * as admin from '@tandem/dns-proxy/admin/limits';
import * as drops from '@tandem/dns-proxy/drops/limits';
import * as dns from '@tandem/dns-proxy/limits';
import * as store from '@tandem/dns-proxy/store/limits';
import * as sync from '@tandem/dns-proxy/sync/limits';
import * as kube from '@tandem/kube/limits';
import { exitCodes } from '@tandem/runtime/lifecycle';

const root = fileURLToPath(new URL('..', import.meta.url));
const number = (value: number): string => value.toLocaleString('en-US');
const seconds = (ms: number): number => ms / 1000;
const words: Readonly<Record<number, string>> = {
  ...{ 1: 'one', 2: 'two', 3: 'three', 4: 'four', 5: 'five', 6: 'six', 16: 'sixteen' },
};
const word = (value: number): string => words[value] ?? `${value}`;
/** Shares that the programs alone use. */
const abi = readFileSync(`${root}/bpf/include/tandem/abi.h`, 'utf8');
const shareOf = (name: string): number =>
  Number(new RegExp(`TD_PACE_${name}_SHARE +(\\d+)u`).exec(abi)?.[1]);
const priorityOf = (hook: string): number | undefined =>
  judgeHooks.find((each) => each.hook === hook)?.priority;

const pages: Readonly<Record<string, readonly string[]>> = {
  'ARCHITECTURE.md': [
    `its heartbeat is less than ${TD_HEARTBEAT_STALE_NS / 1e6} ms old`,
    `one of up to ${dns.upstreamSocketsPerServerMax} connected sockets`,
    `After ${seconds(dns.upstreamTimeoutMs)} s \`timeouts.ts\` gives up`,
    `one of more than ${number(dns.udpReplyBytesMax)} octets is cut`,
    `gives no heartbeat for ${seconds(dns.fenceAfterMs)} s`,
    `compares everything every ${seconds(agent.reconcileIntervalMs)} seconds`,
    `Every ${drops.dropReadMs} ms each process checks whether it is the reader`,
    `when the agent has not looked for ${drops.dropLeaseStaleMs} ms`,
    `of ${dns.turnMs} ms on the main thread, of ${dns.heartbeatIntervalMs} ms in the DNS worker's wait`,
  ],
  'docs/operations.md': [
    `exit code | ${exitCodes.ok} stopped by SIGTERM, ${exitCodes.startFailed} could not start, ${exitCodes.usage} wrong configuration, ${exitCodes.stopIncomplete} a part did not stop in time, ${exitCodes.nothingEnforced} could not start and nothing is enforced, ${exitCodes.bug} a bug, ${exitCodes.killed} a second signal`,
    `at most every ${seconds(agent.firewallReadMs)} seconds, to find the mark bits`,
    `at most ${seconds(gate.admitTimeoutMs)} s, then kubelet tries again`,
    `pods over ${gate.callsMax} calls at once; pods over ${number(gate.sandboxesMax)} sandboxes`,
    `Its kind is read within ${seconds(kube.absentRetryMs)} s`,
    `It writes at most ${controller.conditionsPerSecond} conditions a second`,
    `compares up to ${agent.comparedEntriesMax} entries of each map`,
    `PRE_ROUTING ${priorityOf('preRouting')}, POST_ROUTING ${priorityOf('postRouting')} and`,
    `LOCAL_IN ${priorityOf('localIn')}`,
    `A process reports up to ${number(admin.statusDiagnosticsMax)}`,
    `over ${TD_EVENTS_PER_ENDPOINT} a second of one pod, or over ${TD_EVENTS_PER_SECOND} a second of all pods, on one CPU`,
    `over ${sync.forwardedDropsPerSecond} drops or ${sync.forwardedDnsPerSecond} answers a second`,
    `keeps the last ${store.storedEventsMax}`,
    `found \`fqdn_live\` full (${number(TD_FQDN_LIVE_MAX)})`,
    `twice \`queriesPerSecond\`, as many at once; all pods together: ${word(shareOf('NODE'))} times that; each pod at least a ${word(shareOf('GUARANTEED'))}th of it`,
    `a ${dns.endpointFreeShare === 4 ? 'fifth' : '?'} of ${number(dns.inFlightMax - dns.inFlightMax / dns.inFlightReserveShare)} while other pods are idle, else a share of the free places; always ${dns.inFlightGuaranteed}`,
    `except the cluster's resolvers | ${dns.upstreamServersPerEndpointMax} |`,
    `While ${number(dns.tcpWaitingPerEndpointMax)} of a pod wait at a member, its next one is reset`,
    `while ${number(dns.tcpWaitingMax)} of all pods wait there`,
    `learned pairs of the node | ${number(TD_PLACES_MAX)} |`,
    `counted for each namespace | ${TD_FQDN_PAGES_MAX * TD_FQDN_SELECTORS_MAX} |`,
    `a cache of names with ${number(core.fqdnEntriesPerNamespaceMax)} addresses per namespace`,
    `(${number(core.fqdnEntriesMax)} addresses, ${number(core.fqdnNamesMax)} names)`,
    `after ${seconds(agent.unfinishedToldMs)} s it is named`,
  ],
  'docs/policy.md': [
    `pods beyond ${number(core.endpointsMax)} addresses of a node`,
    `a CIDR of at most ${core.dnsServersPerCidrMax} addresses`,
    `more than ${number(core.dnsServersPerRuleMax)} pods or nodes`,
    `more than ${dns.udpQueryBytesMax} octets over UDP, or ${dns.tcpQueryBytesMax} over TCP`,
    `over UDP, more than ${number(dns.udpReplyBytesMax)} octets`,
    `none within ${seconds(dns.upstreamTimeoutMs)} s`,
    `If a pod waits for ${dns.upstreamServersPerEndpointMax} servers`,
    `After ${word(dns.upstreamErrorsInRowMin)} ICMP errors in a row`,
    `one query in ${dns.upstreamProbeMs} ms to detect`,
    `until ${seconds(dns.upstreamUnreachableMs)} s after the last error`,
    `no connection within ${seconds(dns.tcpConnectTimeoutMs)} s`,
    `A query that ${word(dns.tcpPassedOverMax + 1)} connections leave unanswered`,
    `(${dns.tcpAlonePerEndpointMax} at one time of a pod, ${dns.tcpAloneMax} of a member)`,
    `after ${seconds(dns.tcpReopenMs)} s, or at once when the Service gets other backends`,
    `more than ${core.replyAliasesMax} aliases`,
    `more than ${core.replyAddressesMax} addresses in the answer | the reply. The first ${core.replyAddressesMax} are learned`,
  ],
  'docs/adr/0019-local-redirect.md': [
    `remembers so ${dns.tcpPastRedirectsPerEndpointMax} servers of an endpoint and ${number(dns.tcpPastRedirectsMax)} of the node`,
  ],
  'docs/node-local-dns.md': [`bypass redirects for ${word(seconds(dns.upstreamDirectMs))} seconds`],
  'docs/security.md': [
    `${core.replyAddressesMax} addresses of a reply, a week at most`,
    `end after ${seconds(dns.tcpMessageTimeoutMs)} s and cost a neighbour nothing`,
    `over ${dns.tcpInFlightPerConnectionMax} queries in flight a connection is not read`,
  ],
  'docs/internals/takeover.md': [
    `a heartbeat older than ${TD_HEARTBEAT_STALE_NS / 1e6} ms`,
    `each ${dns.heartbeatIntervalMs} ms`,
    `at most ${dns.peerLookGapMaxMs} ms between two checks`,
    `are read for ${dns.retiredListenersMs} ms more`,
    `${dns.replaysPerTurn} replayed queries in one turn`,
  ],
};

for (const [page, pieces] of Object.entries(pages)) {
  test(`figures of ${page} are those of the code`, () => {
    const text = readFileSync(`${root}/${page}`, 'utf8').replaceAll(/\s+/g, ' ');
    assert.deepEqual(
      pieces.filter((piece) => !text.includes(piece)),
      [],
    );
  });
}
