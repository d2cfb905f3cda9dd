// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Keeps the node's redirects in the kernel: redirects in force there go on while neither process runs. A pod that no
 * longer serves is taken out first, and then the entries of conntrack that lead to it, so that queries go elsewhere at once.
 */

import type { Ifindex } from '@tandem/core/ids';
import { formatAddress, parseAddress } from '@tandem/core/net/ip';
import type { Redirect } from '@tandem/core/policy/model/redirect';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import { Conntrack } from '@tandem/netlink/conntrack';
import { NFPROTO_INET, NftWatch } from '@tandem/netlink/nft-watch';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { AttachedEndpoint } from '../endpoint/attacher.ts';
import { redirectNotesMax, repairIntervalMs } from '../limits.ts';
import { run } from '../node/command.ts';
import { nftName } from '../node/nft-table.ts';
import { RepairPace } from '../node/repair-pace.ts';
import { type BackendInterface, redirectRules, redirectTable } from './redirect-rules.ts';

export interface RedirectStackOptions {
  readonly memberUids: readonly number[];
  /** Name of an interface; undefined: it is gone. */
  readonly nameOf: (ifindex: Ifindex) => string | undefined;
  readonly log: Logger;
}

export class RedirectStack {
  readonly counters = { written: 0, mended: 0, forgotten: 0, failed: 0 };
  readonly #o: RedirectStackOptions;
  #watch: NftWatch | null = null;
  #redirects: readonly Redirect[] = [];
  #interfaces: ReadonlyMap<string, BackendInterface> = new Map();
  /** Addresses of this node's pods, as text. */
  #pods: ReadonlySet<string> = new Set();
  /** Text of the table in force; null: unknown. */
  #text: string | null = null;
  /** The rules in force, as nft prints them. */
  #shown: string | null = null;
  /** Addresses of terminating backends: connections that they have answered are no longer redirected to them. */
  #ending: ReadonlySet<string> = new Set();
  /** Pods to which traffic was led, as text; null: what the kernel has is to be asked. */
  #backends: ReadonlySet<string> | null = null;
  /** Another program may have changed the table. */
  #isStale = true;
  readonly #pace = new RepairPace(systemClock);
  #problem: string | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;
  #running: Promise<void> = Promise.resolve();

  constructor(options: RedirectStackOptions) {
    this.#o = options;
  }

  /** Puts the compiled redirects in force. `endpoints`: pods whose interfaces are known. Never rejects. */
  apply(redirects: readonly Redirect[], endpoints: readonly AttachedEndpoint[]): Promise<void> {
    this.#redirects = redirects;
    this.#pods = new Set(endpoints.map(({ address }) => formatAddress(address)));
    this.#interfaces = new Map(
      endpoints.flatMap(({ pod, interface: at }) => {
        const name = this.#o.nameOf(at.l3Ifindex);
        const { isBridged } = at;
        return name === undefined || !nftName.test(name)
          ? []
          : [[`${pod.namespace}/${pod.name}`, { name, isBridged }] as const];
      }),
    );
    return this.ensure();
  }

  /** Compares with the kernel where something may have changed. Never rejects. */
  ensure(): Promise<void> {
    if (!this.#isStopped) this.#running = this.#running.then(() => this.#once());
    return this.#running;
  }

  /** Stops; the table in force stays. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#watch?.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
  }

  /** Frontends that lead to pods of this node now, and those whose policies have no ready pod. */
  get counts(): { readonly active: number; readonly waiting: number } {
    const active = this.#redirects.filter(({ backends }) =>
      backends.some(({ pod }) => this.#interfaces.has(pod)),
    ).length;
    return { active, waiting: this.#redirects.length - active };
  }

  /** Effect of each policy now, for `status`. */
  get notes(): readonly string[] {
    const bySubject = Map.groupBy(this.#redirects, ({ subject }) => subject);
    const notes = [...bySubject].map(([subject, redirects]) => {
      const pods = redirects.flatMap(({ backends }) => backends.map(({ pod }) => pod));
      const known = [...new Set(pods)].filter((pod) => this.#interfaces.has(pod));
      const frontends = redirects.map(
        ({ address, port, protocol }) =>
          `${formatAddress(address)} port ${port}/${protocol === 6 ? 'TCP' : 'UDP'}`,
      );
      return known.length === 0
        ? `${subject} has no ready pod on this node: what it matches goes on as without it`
        : `${subject} leads ${frontends.join(', ')} to ${known.join(', ')}`;
    });
    const more = notes.length - redirectNotesMax;
    return more > 0 ? [...notes.slice(0, redirectNotesMax), `and ${more} more redirects`] : notes;
  }

  get degradations(): readonly Degradation[] {
    const failed = (message: string, fix?: string): Degradation =>
      degradation('redirect-failed', { message, ...(fix === undefined ? {} : { fix }) });
    return [
      ...(this.#problem === null
        ? []
        : [
            failed(
              `the redirects of CiliumLocalRedirectPolicies cannot be written, and the former ones stay in force: ${this.#problem}`,
            ),
          ]),
      ...(this.#pace.isSlowed ? [failed(quarrel, quarrelFix)] : []),
    ];
  }

  async #once(): Promise<void> {
    try {
      await this.#bring();
      this.#problem = null;
    } catch (error) {
      const { message } = TandemError.from(error);
      this.counters.failed += 1;
      if (this.#problem !== message) {
        this.#o.log.error('redirects cannot be written and will be tried again', {
          reason: message,
        });
      }
      this.#problem = message;
      this.#isStale = true;
    }
  }

  async #bring(): Promise<void> {
    const rules = redirectRules({
      redirects: this.#redirects,
      interfaceOf: (pod) => this.#interfaces.get(pod) ?? null,
      memberUids: this.#o.memberUids,
    });
    this.#startWatch();
    if (this.#backends === null) await this.#takeOver();
    const known = this.#backends ?? new Set<string>();
    const isOther = rules.text !== this.#text;
    const wasStale = this.#isStale;
    this.#isStale = false;
    const isToWrite = isOther || (wasStale && (await this.#isForeign()));
    if (isToWrite) {
      if (!isOther) this.counters.mended += 1;
      await write(rules.text);
      this.counters.written += 1;
      this.#text = rules.text;
      // The text for later comparisons must be ours, not one that another program has changed meanwhile.
      this.#shown = null;
    }
    // No notification reports later changes.
    if (this.#watch === null) this.#isStale = true;
    // Before nft is asked again: until then connections lead where the rules no longer do.
    const ending = new Set(
      this.#redirects.flatMap((redirect) => redirect.ending.map((each) => formatAddress(each))),
    );
    const newly = ending.difference(this.#ending);
    if (newly.size > 0)
      await this.#forget(newly, (from, isAnswered) => isAnswered && this.#isPod(from));
    this.#ending = ending;
    const gone = known.difference(rules.backends);
    // Until they are forgotten, too.
    this.#backends = known.union(rules.backends);
    if (gone.size > 0) await this.#forget(gone);
    this.#backends = rules.backends;
    if (isToWrite) await this.#confirm(rules.text);
  }

  /** @throws TandemError when nft does not print the rules that were written */
  async #confirm(text: string): Promise<void> {
    const shown = await listed();
    if (!isWhole(shown, text)) throw new TandemError('TANDEM_REDIRECT', changedMeanwhile);
    this.#shown = shown;
    this.#o.log.info('redirects are in force', this.counts);
  }

  /** Takes over the table of an earlier agent. If there is none, nothing has to be written. */
  async #takeOver(): Promise<void> {
    const json = await listed(['--json']);
    this.#backends = backendsShown(json);
    if (json !== '') return;
    this.#text = '';
    this.#shown = '';
    this.#isStale = false;
  }

  /** The members see to their own sockets when nothing comes back to them. */
  #isPod(address: Uint8Array): boolean {
    return this.#pods.has(formatAddress(address));
  }

  async #forget(
    gone: ReadonlySet<string>,
    isChosen?: (sender: Uint8Array, isAnswered: boolean) => boolean,
  ): Promise<void> {
    using conntrack = new Conntrack();
    for (const text of gone) {
      const address = parseAddress(text);
      if (address === null) continue;
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      this.counters.forgotten += await conntrack.forgetTranslated(address, isChosen);
    }
  }

  async #isForeign(): Promise<boolean> {
    return this.#text === null || this.#shown === null || (await listed()) !== this.#shown;
  }

  #startWatch(): void {
    if (this.#watch !== null) return;
    try {
      const onChange = (): void => {
        this.#isStale = true;
        // Another program that removes what we make does not keep us busy.
        this.#timer ??= setTimeout(
          () => {
            this.#timer = null;
            void this.ensure();
          },
          // The kernel sends several notices of one write.
          Math.max(repairIntervalMs, this.#pace.take()),
        );
      };
      this.#watch = new NftWatch({
        tables: [{ family: NFPROTO_INET, name: redirectTable }],
        onChange,
      });
    } catch (error) {
      this.#o.log.warn(
        'changes of the redirects cannot be watched: they are read every few seconds',
        {
          error: TandemError.from(error),
        },
      );
    }
  }
}

export function addRedirectMetrics(metrics: Metrics, stack: RedirectStack): void {
  metrics.gauge(
    { name: 'tandem_redirects', help: 'frontends that are redirected to pods of this node' },
    () => stack.counts.active,
  );
  metrics.gauge(
    {
      name: 'tandem_redirects_waiting',
      help: 'frontends of CiliumLocalRedirectPolicies without a ready pod on this node: their traffic is not redirected',
    },
    () => stack.counts.waiting,
  );
  addFields(
    metrics,
    'tandem_redirect',
    {
      written: 'writes of the redirects to nftables',
      mended: 'writes of the redirects to nftables after another process had changed them',
      forgotten:
        'conntrack entries removed because they point to a pod that is no longer a backend',
      failed: 'writes of the redirects to nftables that failed; the agent tries again',
    },
    () => stack.counters,
  );
}

/** A name that nft takes as it is: no quote, and no * for those that begin so. Others' pods are no backends. */
const quarrel = `the nft table ${redirectTable} changes again and again, so it is restored at most once a second, and until then redirects may be missing`;
const quarrelFix =
  'find the program that changes it by nft monitor, and let it leave this table alone';
const changedMeanwhile = 'another process changed table inet tandem_redirect while it was written';
/** Rules that every table of ours has once, independent of its redirects. */
const rulesOfHooks = [
  'meta skuid != ',
  'meta priority ',
  ...['redirect', 'addresses', 'members'].flatMap((map) => [`vmap @${map}4`, `vmap @${map}6`]),
];
/** Rules that it has in a variable number: translations, and rules that exempt a backend's own traffic. */
const rulesOfChains = [' numgen random mod ', 'iifname @loop_', ' saddr @loop4_', ' saddr @loop6_'];

/** Whether nft shows the rules of the hooks and of each chain. */
function isWhole(shown: string, text: string): boolean {
  if (text === '') return shown === '';
  const isAsOften = (rule: string): boolean => shown.split(rule).length === text.split(rule).length;
  return rulesOfHooks.every((rule) => shown.includes(rule)) && rulesOfChains.every(isAsOften);
}

/** Takes everything away. @throws TandemError */
export async function removeRedirects(): Promise<void> {
  await write('');
}

async function write(text: string): Promise<void> {
  const nothing = `table inet ${redirectTable} {}\ndelete table inet ${redirectTable}\n`;
  await run('nft', ['-f', '-'], text === '' ? nothing : text);
}

/** As nft shows the table; '': there is none. @throws TandemError */
async function listed(options: readonly string[] = []): Promise<string> {
  try {
    return await run('nft', [...options, 'list', 'table', 'inet', redirectTable]);
  } catch (error) {
    const failure = TandemError.from(error);
    if (failure.message.includes('No such file or directory')) return '';
    throw failure;
  }
}

/** Addresses in the sets of backends of a table that an agent before this one made. */
function backendsShown(json: string): ReadonlySet<string> {
  try {
    const { nftables } = JSON.parse(json) as { nftables: readonly unknown[] };
    const found = nftables.flatMap((each) => {
      const { set } = each as { set?: { name?: unknown; elem?: unknown } };
      const isOurs = set?.name === 'backends4' || set?.name === 'backends6';
      return isOurs && Array.isArray(set.elem) ? (set.elem as readonly unknown[]) : [];
    });
    return new Set(found.filter((each): each is string => typeof each === 'string'));
  } catch {
    return new Set();
  }
}
