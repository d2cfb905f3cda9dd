// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * All objects of a kind, as the API server has them, and each change of them: a watch that begins with the objects
 * (WatchList), or a list by pages and a watch after it where the server has no such watches. What was known stays known
 * while the server cannot be asked; an object that a new list does not have is removed when that list is whole.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { foreignText, isBehind, messageOf, nothingSent, onTooLong, textOf } from './answer-text.ts';
import { Backoff } from './backoff.ts';
import { type Answer, isUnserved } from './discovery.ts';
import { connectionFailure, type Failure, failure, forbidden, statusCause } from './failure.ts';
import {
  absentFirstRetryMs,
  absentRetryMs,
  lineBytesMax,
  listSilenceMaxMs,
  objectsMax,
  pageBytesMax,
  pageObjects,
  pageShrink,
  retryAfterMaxMs,
  silenceMaxMs,
  watchListRetryMs,
  watchMsMin,
} from './limits.ts';
import { linesOf } from './lines.ts';
import type { ListWatchState, ObjectSink } from './object-sink.ts';
import {
  acceptJson,
  definitionPath,
  listPath,
  type Resource,
  watchListPath,
  watchPath,
  watchSeconds,
} from './resource.ts';
import { type KubeResponse, type KubeSession, NotConnected } from './session.ts';
import { hasNoItems, otherVersionsServed, unreadPath, unreadText, versionsOf } from './versions.ts';
import { keyOf, readWatchEvent } from './watch-event.ts';

export interface ListWatchOptions {
  readonly session: KubeSession;
  readonly resource: Resource;
  readonly sink: ObjectSink;
  readonly silenceMaxMs?: number;
  readonly listSilenceMaxMs?: number;
  readonly absentRetryMs?: number;
  readonly pageBytesMax?: number;
}

/** An attempt ended as it should. */
const ended = { waitMs: 0 };
type Attempt = { readonly waitMs: number } | Failure;

export class ListWatch {
  readonly counters = { lists: 0, watches: 0, events: 0, relists: 0, unknown: 0, failures: 0 };
  readonly #o: ListWatchOptions;
  readonly #stop = new AbortController();
  readonly #backoff = new Backoff();
  /** Where a watch goes on; '': everything is to be read. */
  #resourceVersion = '';
  /** Until then the server is not asked for a watch-list; of the monotonic clock. */
  #pagesUntilMs = 0;
  #isWhole = false;
  /** Answers in a row that there is no such kind. */
  #absences = 0;
  #state: ListWatchState = {
    kind: 'waiting',
    message: 'no answer has come yet',
    cause: 'network',
  };
  #running: Promise<void> | null = null;
  /** The version that is read. */
  #resource: Resource;

  constructor(options: ListWatchOptions) {
    this.#o = options;
    this.#resource = options.resource;
  }

  get state(): ListWatchState {
    return this.#state;
  }

  get resource(): Resource {
    return this.#resource;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      // oxlint-disable-next-line no-await-in-loop -- one attempt at a time
      const result = await this.#attempt();
      if (signal.aborted) return;
      let { waitMs } = 'waitMs' in result ? result : { waitMs: 0 };
      if ('message' in result) {
        this.counters.failures += 1;
        this.#fail(result);
        const ownMs = result.hasWaited === true ? 0 : this.#backoff.next();
        waitMs = Math.max(ownMs, Math.min(result.retryAfterMs, retryAfterMaxMs));
      }
      // oxlint-disable-next-line no-await-in-loop -- back-off
      if (waitMs > 0) await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #attempt(): Promise<Attempt> {
    try {
      if (this.#resourceVersion !== '') return await this.#watch();
      if (performance.now() < this.#pagesUntilMs) return await this.#list();
      return await this.#watchList();
    } catch (error) {
      const isUnconnected = error instanceof NotConnected;
      const failed = connectionFailure(isUnconnected ? error.cause : error);
      return { ...failed, retryAfterMs: 0, ...(isUnconnected ? { hasWaited: true } : {}) };
    }
  }

  async #watchList(): Promise<Attempt> {
    this.counters.lists += 1;
    const seen = new Set<string>();
    return this.#follow(watchListPath(this.#resource, watchSeconds()), seen);
  }

  async #watch(): Promise<Attempt> {
    this.counters.watches += 1;
    return this.#follow(watchPath(this.#resource, this.#resourceVersion, watchSeconds()), null);
  }

  /** Reads a watch to its end. `seen`: it begins with all objects, whose keys are collected; null: with changes. */
  async #follow(path: string, seen: Set<string> | null): Promise<Attempt> {
    const response = await this.#get(path);
    const refusal = await this.#refusalOf(response, seen !== null);
    if (refusal !== null) return refusal;
    let initial = seen;
    const { silenceMaxMs: silenceMs = silenceMaxMs, listSilenceMaxMs: listMs = listSilenceMaxMs } =
      this.#o;
    let isSilent = false;
    const onSilence = (): void => {
      isSilent = true;
      response.body.destroy(new Error(nothingSent));
    };
    let overdue = setTimeout(onSilence, initial === null ? silenceMs : listMs);
    const startedMs = performance.now();
    try {
      // Of a watch that is resumed nothing comes for up to a minute: it is followed from its headers on.
      if (initial === null) this.#setState({ kind: 'synced' });
      for await (const line of linesOf(response.body, lineBytesMax)) {
        overdue.refresh();
        if (initial === null) this.#backoff.reset();
        const event = readWatchEvent(line);
        if (event.type === 'unknown') {
          this.counters.unknown += 1;
          return failure(event.message);
        }
        if (event.type === 'ERROR')
          return this.#onError(event.code, event.message, initial !== null);
        if (event.type === 'BOOKMARK') {
          if (event.endsInitialEvents && initial !== null) {
            this.#finishList(initial);
            initial = null;
            clearTimeout(overdue);
            overdue = setTimeout(onSilence, silenceMs);
          }
        } else {
          this.counters.events += 1;
          const problem = this.#take(event.type, event.object, initial);
          if (problem !== null) return failure(problem);
        }
        // Of a list that is not whole nothing can be resumed.
        if (initial === null && event.resourceVersion !== '') {
          this.#resourceVersion = event.resourceVersion;
        }
      }
      if (initial !== null) return failure('the API server ended the list before its end');
      // Each watch ends after some minutes. One that ends at once would be asked for without end.
      return performance.now() - startedMs > watchMsMin ? ended : { waitMs: this.#backoff.next() };
    } catch (error) {
      // Its version may be one that the server does not have yet, or never: of before a restore, for one. A server that
      // does not hear of its store's progress never ends the list of a watch-list.
      if (isSilent && initial === null) this.#forgetVersion();
      else if (isSilent) this.#fallBack();
      throw error;
    } finally {
      clearTimeout(overdue);
      response.body.close();
    }
  }

  async #list(): Promise<Attempt> {
    this.counters.lists += 1;
    const seen = new Set<string>();
    let continueToken = '';
    let resourceVersion = '';
    const { pageBytesMax: bytesMax = pageBytesMax } = this.#o;
    let objects = pageObjects;
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop -- each page names the next
      const response = await this.#get(listPath(this.#resource, continueToken, objects));
      // oxlint-disable-next-line no-await-in-loop
      const refusal = await this.#refusalOf(response, false);
      if (refusal !== null) return refusal;
      // oxlint-disable-next-line no-await-in-loop
      const text = await this.#textOf(response, bytesMax).catch(onTooLong);
      if (text === null && objects === 1) return failure('an object is longer than a page may be');
      if (text === null) {
        objects = Math.max(1, Math.floor(objects / pageShrink));
        continue;
      }
      objects = Math.min(pageObjects, objects * 2);
      const page = JSON.parse(text) as unknown;
      if (!isFields(page) || !Array.isArray(page['items']) || !isFields(page['metadata'])) {
        return failure('a page of a list has no items');
      }
      const { apiVersion, kind } = this.#resource;
      for (const item of page['items']) {
        const problem = isFields(item)
          ? this.#take('ADDED', { ...item, apiVersion, kind }, seen)
          : 'an item of a list is no object';
        if (problem !== null) return failure(problem);
      }
      const { continue: next, resourceVersion: version } = page['metadata'];
      continueToken = typeof next === 'string' ? next : '';
      if (typeof version === 'string') resourceVersion = version;
      if (continueToken === '') break;
    }
    this.#finishList(seen);
    this.#resourceVersion = resourceVersion;
    return resourceVersion === '' ? failure('a list has no resourceVersion') : ended;
  }

  #take(
    type: 'ADDED' | 'MODIFIED' | 'DELETED',
    object: Fields,
    seen: Set<string> | null,
  ): string | null {
    const key = keyOf(object);
    if (type === 'DELETED') {
      seen?.delete(key);
      this.#o.sink.delete(key);
      return null;
    }
    if (seen !== null) {
      seen.add(key);
      if (seen.size > objectsMax) return `there are more than ${objectsMax} objects of this kind`;
    }
    this.#o.sink.set(key, object);
    return null;
  }

  #finishList(seen: ReadonlySet<string>): void {
    if (this.#isWhole) this.counters.relists += 1;
    this.#o.sink.retain(seen);
    this.#isWhole = true;
    this.#succeed();
  }

  #textOf(response: KubeResponse, bytesMax: number): Promise<string> {
    return textOf(response, bytesMax, this.#o.listSilenceMaxMs ?? listSilenceMaxMs);
  }

  /** Why a response carries no objects; null: it does. */
  async #refusalOf(response: KubeResponse, isWatchList: boolean): Promise<Attempt | null> {
    const { status, retryAfterMs } = response;
    if (status === 200) return null;
    const text = await this.#textOf(response, lineBytesMax).catch(() => '');
    if (status === 410) return this.#expire();
    if (status === 404) return this.#onMissing();
    if (status === 403 && (await this.#isUnserved(retryAfterMs))) return this.#beAbsent(true);
    // A server of before WatchList refuses what it does not know; one whose cache stays behind its store has no list.
    const isRefused = status === 400 || status === 422;
    if (isWatchList && (isRefused || isBehind(text))) return this.#fallBack();
    if (isRefused) this.#forgetVersion();
    if (status === 403) return forbidden(retryAfterMs);
    const message = `the API server answers ${status} ${messageOf(text)}`;
    return { message, cause: statusCause(status), retryAfterMs };
  }

  /** An event of type ERROR, which comes instead of a status when the stream has begun. */
  #onError(code: number, message: string, isInitial: boolean): Attempt {
    if (code === 410) return this.#expire();
    if (isInitial) return this.#fallBack();
    // The same event may come each time that the watch is resumed at this version.
    if (code !== 429) this.#forgetVersion();
    return failure(`the API server ends the watch: ${message}`);
  }

  /** The version is older than the server remembers: as after each of its restarts. */
  #expire(): Attempt {
    this.#forgetVersion();
    return { waitMs: this.#backoff.next() };
  }

  #fallBack(): Attempt {
    this.#pagesUntilMs = performance.now() + watchListRetryMs;
    return ended;
  }

  /** A kind whose definition is gone has no objects. That a server which starts does not know it yet is no such proof. */
  async #onMissing(): Promise<Attempt> {
    const { resource } = this.#o;
    if (resource.definition === undefined) return failure('the API server has no such kind');
    const { status, text } = await this.#ask(definitionPath(resource.definition));
    if (status === 403) {
      return failure(
        'whether this kind exists is not known: the ClusterRole must allow get of customresourcedefinitions',
        'rights',
      );
    }
    const foreign = status === 404 ? foreignText(text, resource.definition) : '';
    if (foreign !== '') return failure(foreign);
    const others = otherVersionsServed(text, versionsOf(resource));
    if (status !== 404 && others === null) {
      // The objects of a watch that ended so stay until another version lists them.
      if (this.#tryNextVersion()) return ended;
      return failure(`the API server does not serve ${resource.definition} yet`);
    }
    const path = unreadPath(resource, others ?? []);
    const list = path === null ? null : await this.#ask(path, pageBytesMax);
    if (list !== null && !hasNoItems(list)) return failure(unreadText(resource, others ?? []));
    return this.#beAbsent(false);
  }

  /** There are no objects. `isForbidden`: nor may they be read when there are some. */
  #beAbsent(isForbidden: boolean): Attempt {
    const { sink, absentRetryMs: retryMs = absentRetryMs } = this.#o;
    this.#forgetVersion();
    this.#isWhole = false;
    sink.retain(new Set());
    this.#setState({ kind: 'absent', isForbidden });
    // Where the controller makes the definition, it is there soon after an installation.
    const boundMs = Math.min(retryMs, absentFirstRetryMs * 2 ** Math.min(this.#absences, 16));
    this.#absences += 1;
    return { waitMs: boundMs * (0.5 + Math.random() / 2) };
  }

  /** Whether a kind that may not be read, and that nothing was read of, is served in no version. */
  async #isUnserved(retryAfterMs: number): Promise<boolean> {
    const { resource } = this.#o;
    if (resource.definition === undefined || this.#isWhole) return false;
    if (this.#state.kind === 'waiting') this.#fail(forbidden(retryAfterMs));
    return isUnserved(resource, (path) => this.#ask(path));
  }

  /** False: each has been asked for since the first. */
  #tryNextVersion(): boolean {
    const versions = versionsOf(this.#o.resource);
    const next = versions.findIndex(({ path }) => path === this.#resource.path) + 1;
    const version = versions[next] ?? this.#o.resource;
    if (version.path !== this.#resource.path) this.#forgetVersion();
    this.#resource = version;
    return next < versions.length;
  }

  /** `text`: '' where there is none, or one of more octets. */
  async #ask(path: string, bytesMax = lineBytesMax): Promise<Answer> {
    const response = await this.#get(path);
    const text = await this.#textOf(response, bytesMax).catch(() => '');
    return { status: response.status, text };
  }

  #get(path: string): Promise<KubeResponse> {
    return this.#o.session.request({ path, accept: acceptJson, signal: this.#stop.signal });
  }

  #forgetVersion(): void {
    this.#resourceVersion = '';
  }

  #succeed(): void {
    this.#absences = 0;
    this.#backoff.reset();
    this.#setState({ kind: 'synced' });
  }

  #fail({ message, cause }: Failure): void {
    const since = this.#state;
    if (!this.#isWhole) this.#setState({ kind: 'waiting', message, cause });
    else if (since.kind === 'stale') this.#setState({ ...since, message, cause });
    else this.#setState({ kind: 'stale', sinceMs: performance.now(), message, cause });
  }

  #setState(state: ListWatchState): void {
    this.#state = state;
    this.#o.sink.stateChanged();
  }
}
