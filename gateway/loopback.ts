/** Whether an address of a socket's other end is this machine's own: what it sends in clear, nobody reads on the way. */
export function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(127\.|::1$|::ffff:127\.)/.test(address);
}
