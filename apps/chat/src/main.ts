// First of all, before anything reads the address.
import './lib/carried';
import { startEngine } from './lib/engine';
import { register } from './lib/shell';
import { start } from './start';

register();
start(startEngine());
