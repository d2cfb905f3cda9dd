// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Keeping the object of before where a new one says the same, so that who compares need not look into it. */

/** `former` where it is equal to `value`: plain data of arrays, maps, sets, typed arrays and objects. */
export function sameAs<T>(former: T, value: T): T {
  return areEqual(former, value) ? former : value;
}

/** Whether both have the same objects in the same places. */
export function samePartsAs(left: readonly unknown[], right: readonly unknown[]): boolean {
  return left.length === right.length && left.every((each, i) => each === right[i]);
}

function areEqual(left: unknown, right: unknown): boolean {
  if (left === right) return true;
  if (typeof left !== 'object' || typeof right !== 'object') return false;
  if (left === null || right === null) return false;
  if (left instanceof Uint8Array) return right instanceof Uint8Array && areListsEqual(left, right);
  if (Array.isArray(left)) return Array.isArray(right) && areListsEqual(left, right);
  if (left instanceof Map) {
    return (
      right instanceof Map &&
      left.size === right.size &&
      left.entries().every(([key, value]) => right.has(key) && areEqual(value, right.get(key)))
    );
  }
  if (left instanceof Set) {
    return right instanceof Set && left.size === right.size && left.isSubsetOf(right);
  }
  const names = Object.keys(left);
  if (names.length !== Object.keys(right).length) return false;
  const [one, other] = [left as Record<string, unknown>, right as Record<string, unknown>];
  for (const name of names) if (!areEqual(one[name], other[name])) return false;
  return true;
}

function areListsEqual(left: ArrayLike<unknown>, right: ArrayLike<unknown>): boolean {
  if (left.length !== right.length) return false;
  for (let i = 0; i < left.length; i++) if (!areEqual(left[i], right[i])) return false;
  return true;
}
