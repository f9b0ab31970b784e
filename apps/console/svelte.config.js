/** `fragments: 'tree'`: elements are made one by one, never from a string of HTML, so that no Trusted Types policy for HTML is needed. */
export default {
  compilerOptions: { runes: true, fragments: 'tree' },
};
