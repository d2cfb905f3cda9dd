// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// "Did you mean": the name that a misspelt one is nearest to.

/** Longest part of a name that is compared, characters: the work is its square. */
const comparedCharsMax = 64;

/** Edits (insert, delete, replace, swap of neighbours) from `left` to `right`. */
function editDistance(left: string, right: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const isEqual = left[row - 1] === right[column - 1];
      let cost = Math.min(
        previous[column]! + 1,
        current[column - 1]! + 1,
        previous[column - 1]! + (isEqual ? 0 : 1),
      );
      const isSwap = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      if (isSwap && row > 1 && column > 1) {
        cost = Math.min(cost, beforePrevious[column - 2]! + 1);
      }
      current.push(cost);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[right.length]!;
}

/** Letters and digits only, lower case: "listen_port", "listen-port" and "listenPort" are one. */
function normalised(name: string): string {
  return name
    .slice(0, comparedCharsMax)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '');
}

/** The member of `names` nearest to `name`, the first of equals. Empty when there are none. */
export function nearestName(name: string, names: readonly string[]): string {
  let best = '';
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of names) {
    const distance = editDistance(normalised(name), normalised(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}
