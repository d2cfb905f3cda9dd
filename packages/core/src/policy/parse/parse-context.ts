// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** State that the parsers of one policy object share: its issues, and the number of items that it may still have. */

import { at, type Fields, Issues, withoutNulls } from '../../k8s/shape.ts';
import { objectErrorsMax, policyObjectItemsMax, selectorItemsMax } from '../../limits.ts';

export class ParseContext {
  readonly errors: Issues = new Issues(objectErrorsMax);
  readonly warnings: Issues = new Issues(objectErrorsMax);
  /** '' for clusterwide policies. */
  readonly namespace: string;
  #items = 0;
  #selectorItems = 0;

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
    // Once an object: the first list that has no room is the one to look at.
    if (rest >= 0 && list.length > 0)
      this.error(path, `goes beyond ${policyObjectItemsMax} items of one object: split the object`);
    return list.slice(0, Math.max(rest, 0));
  }

  /** Counts requirements of selectors and their values. False: the object has too many, with an error for the first one. */
  takeSelector(count: number, path: string): boolean {
    const wasWithin = this.#selectorItems <= selectorItemsMax;
    this.#selectorItems += count;
    const isWithin = this.#selectorItems <= selectorItemsMax;
    if (wasWithin && !isWithin) {
      const what = `goes beyond ${selectorItemsMax} labels and values in the selectors of one object`;
      this.error(path, `${what}: split the object`);
    }
    return isWithin;
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
      if (!known.includes(field)) this.#refuseField(field, path, known, unsupported);
      else if (fields[field] === null) {
        this.error(at(path, field), 'is null: give it a value or remove it');
      }
    }
  }

  /** As `checkFields`, of a mapping of Kubernetes' own types, where null is absent: the fields without those. */
  presentFields(
    fields: Fields,
    path: string,
    known: readonly string[],
    unsupported: Readonly<Record<string, string>> = {},
  ): Fields {
    for (const field of Object.keys(fields)) {
      if (!known.includes(field)) this.#refuseField(field, path, known, unsupported);
    }
    return withoutNulls(fields, known);
  }

  #refuseField(
    field: string,
    path: string,
    known: readonly string[],
    unsupported: Readonly<Record<string, string>>,
  ): void {
    const advice = Object.hasOwn(unsupported, field) ? unsupported[field] : undefined;
    const meant = known.find((each) => each.toLowerCase() === field.toLowerCase());
    const expected = meant === undefined ? `expected ${known.join(', ')}` : `write ${meant}`;
    const message =
      advice === undefined ? `is no known field here: ${expected}` : `is not supported: ${advice}`;
    this.error(at(path, field), message);
  }
}
