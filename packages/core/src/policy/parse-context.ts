// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What the parsers of one policy object share: where issues go, and how much the object may ask for. */
import { at, type Fields, Issues } from '../k8s/shape.ts';
import { objectErrorsMax, policyObjectItemsMax } from '../limits.ts';

export class ParseContext {
  readonly errors: Issues = new Issues(objectErrorsMax);
  readonly warnings: Issues = new Issues(objectErrorsMax);
  /** '' for clusterwide policies. */
  readonly namespace: string;
  #items = 0;

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  error(path: string, message: string): void {
    this.errors.add(path, message);
  }

  warn(path: string, message: string): void {
    this.warnings.add(path, message);
  }

  /** Counts rules, peers, ports and names. The items of `list` that are within the limit. */
  take<T>(list: readonly T[], path: string): readonly T[] {
    const rest = policyObjectItemsMax - this.#items;
    this.#items += list.length;
    if (list.length <= rest) return list;
    this.error(path, `goes beyond ${policyObjectItemsMax} items of one object: split the object`);
    return list.slice(0, Math.max(rest, 0));
  }

  /**
   * Every field of the mapping must be known. `unsupported` names fields that Cilium has and we do not,
   * with what to do instead.
   */
  checkFields(
    fields: Fields,
    path: string,
    known: readonly string[],
    unsupported: Readonly<Record<string, string>> = {},
  ): void {
    for (const field of Object.keys(fields)) {
      if (known.includes(field)) {
        if (fields[field] === null) {
          this.error(at(path, field), 'is null: give it a value or remove it');
        }
        continue;
      }
      const advice = Object.hasOwn(unsupported, field) ? unsupported[field] : undefined;
      if (advice !== undefined) this.error(at(path, field), `is not supported: ${advice}`);
      else {
        this.error(at(path, field), `is no known field here: expected ${known.join(', ')}`);
      }
    }
  }
}
