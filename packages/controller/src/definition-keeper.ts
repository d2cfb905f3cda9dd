// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Definitions of Cilium's kinds in the cluster. The controller makes a missing one, updates an earlier one of Tandem, never
 * restores an earlier version, and never changes a definition of another program.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { callApi, messageOf } from '@tandem/kube/call';
import { definitionPath } from '@tandem/kube/resource';
import type { KubeSession } from '@tandem/kube/session';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { type Definition, definitions, definitionVersion, versionLabel } from './definitions.ts';
import { definitionsMissingMs, definitionsMs } from './limits.ts';
import { isConditionTrue } from './node-pods.ts';
import type { Writer } from './writer.ts';

export const definitionModes = ['auto', 'always', 'never'] as const;
/** `always`: what others changed in ours is put back too. */
export type DefinitionMode = (typeof definitionModes)[number];

/** States of one definition in the cluster. */
export const definitionStates = {
  unknown: 'not read yet, or not readable',
  missing: 'there is none',
  current: 'ours, of this version',
  older: 'ours, of an earlier version',
  newer: 'ours, of a later version: it stays',
  foreign: 'written by other software: it stays',
} as const;
export type DefinitionState = keyof typeof definitionStates;

export interface DefinitionKeeperOptions {
  readonly session: KubeSession;
  readonly mode: DefinitionMode;
  readonly log: Logger;
}

interface Seen {
  readonly state: DefinitionState;
  /** Whether the kind is served. */
  readonly isEstablished: boolean;
  readonly object: Fields;
}

export class DefinitionKeeper implements Component {
  readonly name = 'definitions';
  readonly #o: DefinitionKeeperOptions;
  readonly #stop = new AbortController();
  readonly #seen = new Map<string, Seen>();
  /** While this process is the leader. */
  #writer: Writer | null = null;
  #wake = new AbortController();
  #running: Promise<void> | null = null;
  #problem = '';

  constructor(options: DefinitionKeeperOptions) {
    this.#o = options;
  }

  /** State of each definition, by its name. */
  get states(): ReadonlyMap<string, DefinitionState> {
    return new Map(definitions.map(({ name }) => [name, this.#seen.get(name)?.state ?? 'unknown']));
  }

  /** Whether policies of both kinds can be applied; if the controller does not make definitions, nothing waits for them. */
  get isServed(): boolean {
    if (this.#o.mode === 'never') return true;
    return definitions.every(({ name }) => this.#seen.get(name)?.isEstablished === true);
  }

  /** Whether objects of a definition have a status to write; null: it has not been looked at. What cannot be read may have. */
  hasStatus(name: string): boolean | null {
    const seen = this.#seen.get(name);
    return seen === undefined ? null : seen.state === 'unknown' || servesStatus(seen.object);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake.abort();
    await this.#running;
  }

  /** Null: this process is not the leader any more. */
  lead(writer: Writer | null): void {
    this.#writer = writer;
    this.#wake.abort();
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController();
      const problems: string[] = [];
      for (const each of definitions) {
        // oxlint-disable-next-line no-await-in-loop -- two
        const problem = await this.#keep(each);
        if (problem !== '') problems.push(`${each.name}: ${problem}`);
      }
      this.#say(problems.join('; '));
      const waitMs = this.isServed && problems.length === 0 ? definitionsMs : definitionsMissingMs;
      const signal = AbortSignal.any([this.#stop.signal, this.#wake.signal]);
      // oxlint-disable-next-line no-await-in-loop
      await delay(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #keep(definition: Definition): Promise<string> {
    try {
      const problem = await this.#read(definition);
      if (problem !== '') return problem;
      const seen = this.#seen.get(definition.name);
      const writer = this.#writer;
      if (seen === undefined || writer === null || this.#o.mode === 'never') return '';
      return await this.#write(definition, seen, writer);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  async #read(definition: Definition): Promise<string> {
    const { session } = this.#o;
    const path = definitionPath(definition.name);
    const answer = await callApi(session, { method: 'GET', path, signal: this.#stop.signal });
    if (answer.status === 200) {
      const { object } = answer;
      const status = isFields(object['status']) ? object['status'] : {};
      const isEstablished = isConditionTrue(status['conditions'], 'Established');
      this.#seen.set(definition.name, {
        state: stateOf(definition, object),
        isEstablished,
        object,
      });
      return '';
    }
    const state = answer.status === 404 ? 'missing' : 'unknown';
    this.#seen.set(definition.name, { state, isEstablished: false, object: {} });
    return state === 'missing' ? '' : messageOf(answer);
  }

  async #write(definition: Definition, seen: Seen, writer: Writer): Promise<string> {
    const { state, object } = seen;
    const isDifferent = state === 'current' && !isSame(definition, object);
    const isToChange = state === 'older' || (isDifferent && this.#o.mode === 'always');
    if (state !== 'missing' && !isToChange) return '';
    const path = definitionPath(definition.name);
    const { result, message } = await writer.write('definition', {
      method: state === 'missing' ? 'POST' : 'PUT',
      path: state === 'missing' ? path.slice(0, path.lastIndexOf('/')) : path,
      content: contentOf(definition, object),
    });
    if (result === 'written') {
      const what =
        state === 'missing'
          ? 'a kind is defined'
          : 'the definition of a kind is brought to this version';
      this.#o.log.info(what, { definition: definition.name, version: definitionVersion });
      return this.#read(definition);
    }
    // Another writer was faster, or this process leads no more: the next look reads the definition again.
    if (result === 'exists' || result === 'changed' || result === 'not-leader') return '';
    return `${result}: ${message}`;
  }

  #say(problem: string): void {
    if (problem === this.#problem || this.#stop.signal.aborted) return;
    this.#problem = problem;
    if (problem === '') this.#o.log.info('CustomResourceDefinitions are read');
    else this.#o.log.error('CustomResourceDefinitions cannot be read or created', { problem });
  }
}

/** Without it the API server answers a write of a status as if the object were gone. */
function servesStatus({ spec }: Fields): boolean {
  const versions = isFields(spec) ? spec['versions'] : undefined;
  if (!Array.isArray(versions)) return false;
  return versions.some((version) => {
    if (!isFields(version) || version['name'] !== 'v2' || version['served'] !== true) return false;
    const { subresources } = version;
    return isFields(subresources) && isFields(subresources['status']);
  });
}

/** With the resourceVersion that was read, so that a change of another writer is not lost. */
function contentOf({ name, spec }: Definition, former: Fields): Fields {
  const metadata = isFields(former['metadata']) ? former['metadata'] : {};
  const labels = isFields(metadata['labels']) ? metadata['labels'] : {};
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      ...metadata,
      name,
      labels: {
        ...labels,
        'app.kubernetes.io/part-of': 'tandem',
        [versionLabel]: String(definitionVersion),
      },
    },
    spec,
  };
}

export function stateOf(definition: Definition, object: Fields): DefinitionState {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {};
  const labels = isFields(metadata['labels']) ? metadata['labels'] : {};
  // Cilium writes labels and spec as a whole, so that nothing of ours is left in what it took over.
  const isCiliums = Object.keys(labels).some((each) => each.startsWith('io.cilium.'));
  const label = labels[versionLabel];
  if (isCiliums) return 'foreign';
  if (typeof label === 'string' && /^[0-9]{1,9}$/.test(label)) {
    const version = Number(label);
    if (version > definitionVersion) return 'newer';
    return version < definitionVersion ? 'older' : 'current';
  }
  return isUnmarked(definition, object) ? 'older' : 'foreign';
}

/** One that the chart brought before the controller did. */
function isUnmarked({ unmarkedSchema }: Definition, { spec }: Fields): boolean {
  const versions = isFields(spec) ? spec['versions'] : undefined;
  if (!Array.isArray(versions) || versions.length !== 1) return false;
  const [only] = versions as unknown[];
  const schema = isFields(only) ? only['schema'] : undefined;
  return (
    isFields(schema) && isDeepStrictEqual({ ...schema }, { openAPIV3Schema: { ...unmarkedSchema } })
  );
}

/** Whether all that we say of it is there; the API server adds defaults. */
function isSame({ spec }: Definition, object: Fields): boolean {
  return contains(object['spec'], spec);
}

function contains(value: unknown, part: unknown): boolean {
  if (isFields(part)) {
    return (
      isFields(value) && Object.entries(part).every(([key, each]) => contains(value[key], each))
    );
  }
  if (!Array.isArray(part)) return value === part;
  return (
    Array.isArray(value) &&
    value.length === part.length &&
    part.every((each, index) => contains(value[index], each))
  );
}
