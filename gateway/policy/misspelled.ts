/** Names that were surely meant to be one that is known, where names of one's own are taken as well. */

/** From here on a word that is one letter off is hardly another word. */
const lengthMin = 6;

/** @returns the known name that `name` misses by its case or by one letter: put in, left out, another, or two swapped. */
export function misspelled(name: string, known: readonly string[]): string | undefined {
  if (known.includes(name)) return undefined;
  const lower = name.toLowerCase();
  return known.find((one) => one === lower || (one.length >= lengthMin && isOneOff(lower, one)));
}

function isOneOff(a: string, b: string): boolean {
  let start = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  const rests = [
    [a.slice(start + 1), b.slice(start)],
    [a.slice(start), b.slice(start + 1)],
    [a.slice(start + 1), b.slice(start + 1)],
    [`${a[start + 1]}${a[start]}${a.slice(start + 2)}`, b.slice(start)],
  ];
  return rests.some(([left, right]) => left === right);
}
