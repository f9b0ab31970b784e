import { mount } from 'svelte';
import { apply, theme } from '../../chat/src/lib/theme';
import App from './App.svelte';
import { language } from './lib/i18n';

document.documentElement.lang = language;
apply(theme());
mount(App, { target: document.getElementById('app')! });
