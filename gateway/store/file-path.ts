/** Of a store that is a file: where it lies. */
export function filePath(url: string): string | undefined {
  return url.startsWith("file:") ? url.slice("file:".length) : undefined;
}

/** Of a store that is a file: the key that signs its seals, which the gateway makes where it is configured none. */
export function keyBeside(url: string): string | undefined {
  const path = filePath(url);
  return path && `${path}.key`;
}
